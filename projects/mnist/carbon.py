"""What the trainer does about carbon: a wait before it starts, a budget while it runs, a sum at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import mlflow_carbon
from projects.mnist.config import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon import RunFootprint, Wait
    from projects.mnist.config import Config

__all__ = ["Budget", "outcome", "started", "wait"]

_LOOK_EVERY_S = 1.0
_POWER_W = 100.0  # of the training: only the ratio to the idle power counts


def wait(config: Config) -> Wait | None:
    """Wait for a cleaner grid where a threshold or a policy asks for it; None where nothing does."""
    if config.carbon_threshold_gco2e_per_kwh is None and config.carbon_policy is None:
        return None
    from tqdm import tqdm

    with tqdm(total=config.max_wait_s, unit="s", desc="waiting for a cleaner grid", disable=None) as bar:

        def show(now: mlflow_carbon.Progress) -> None:
            bar.total = now.waited_s + now.left_s
            bar.set_postfix_str(
                f"{now.now_gco2e_per_kwh:.0f} gCO2e/kWh, for {now.target_gco2e_per_kwh:.0f}", refresh=False
            )
            bar.update(now.waited_s - bar.n)

        done = mlflow_carbon.wait_until_clean(
            max_wait_s=config.max_wait_s,
            duration_s=config.expected_duration_s,
            threshold_gco2e_per_kwh=config.carbon_threshold_gco2e_per_kwh,
            policy=config.carbon_policy,
            zone=config.zone,
            power_w=_POWER_W,
            idle_w=_POWER_W * config.idle_ratio,
            progress=show,
        )
    print(f"waited     {done.wait_s:.0f} s for a cleaner grid ({done.policy}): {done.reason}", flush=True)
    return done


def started(waited: Wait | None) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and tags of the wait; an annual figure is that of any time, so only one is logged."""
    if waited is None:
        return {}, {}
    metrics = {
        "carbon/wait_s": waited.wait_s,
        "carbon/intensity_training_gco2e_per_kwh": waited.training_gco2e_per_kwh,
    }
    if waited.kind != "static":
        metrics["carbon/intensity_initial_gco2e_per_kwh"] = waited.initial_gco2e_per_kwh
    tags = {
        "carbon.plan.policy": waited.policy,
        "carbon.plan.reason": waited.reason,
        "carbon.plan.source": f"{waited.provider} ({waited.kind})",
    }
    return metrics, tags


def outcome(waited: Wait | None, footprint: RunFootprint | None) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and tags of what the wait was worth, by the intensities known now; prints them as they are.

    The machine's own energy, and what it idled while waiting as a share of its mean power.
    """
    if waited is None or footprint is None or not footprint.energy_kwh or not footprint.power_mean_w:
        return {}, {}
    idle_w = footprint.power_mean_w * waited.order.job.idle_ratio
    pue = footprint.pue_ratio or 1.0
    saved = waited.saved(footprint.energy_kwh * pue, idle_w=idle_w * pue)
    is_final = saved.kind == "actual"
    tags = {
        "carbon.plan.outcome": "final: actual intensities"
        if is_final
        else f"not final: weakest intensity is {saved.kind}"
    }
    if saved.kind == "static":
        print(
            f"saved      unknown: {saved.provider} does not say when it is cleaner, nothing to compare with"
        )
        return {}, tags
    final = "" if is_final else f"; not final, as some figures are {saved.kind}"
    print(
        f"saved      {saved.saving_ratio:.1%} of starting at once ({saved.spent_gco2e:#.3g} instead of "
        f"{saved.now_gco2e:#.3g} gCO2e); the best start would have saved {saved.saving_oracle_ratio:.1%}; "
        f"of this one run, by {saved.signal} intensity{final}"
    )
    metrics = {
        "carbon/intensity_oracle_gco2e_per_kwh": saved.intensity_oracle_gco2e_per_kwh,
        "carbon/saving_ratio": saved.saving_ratio,
        "carbon/saving_oracle_ratio": saved.saving_oracle_ratio,
    }
    return metrics, tags


class Budget:
    """Emissions that a training may cause; looked at between updates, once a second at most."""

    def __init__(
        self,
        limit_gco2e: float | None,
        *,
        snapshot: Callable[[], RunFootprint | None] = mlflow_carbon.snapshot,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit_gco2e = limit_gco2e
        self.spent_gco2e: float | None = None
        self.basis = ""
        self._snapshot = snapshot
        self._now_s = now_s
        self._next_s = 0.0

    def is_spent(self) -> bool:
        """Whether the training must end now. Without figures it goes on."""
        if self.limit_gco2e is None:
            return False
        if self._now_s() >= self._next_s:
            self._next_s = self._now_s() + _LOOK_EVERY_S
            found = self._snapshot()
            if found is not None and found.emissions_gco2e is not None:
                self.spent_gco2e, self.basis = found.emissions_gco2e, found.basis
        return self.spent_gco2e is not None and self.spent_gco2e >= self.limit_gco2e

    def reason(self, epoch: int) -> str:
        """Why it ended, for the tag of the run."""
        spent = f"{self.spent_gco2e:.3g} of {self.limit_gco2e:g} gCO2e ({self.basis})"
        return f"budget: {spent} spent in epoch {epoch}"

    def complain(self) -> None:
        """Say so where the budget could not be kept for want of figures."""
        if self.limit_gco2e is not None and self.spent_gco2e is None:
            say("carbon_budget_gco2e: nothing was measured, so it was not kept; see `mlflow-carbon doctor`")

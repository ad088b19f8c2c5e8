"""What a planned run tells of itself: its tags, its metrics, `carbon/plan.json` and some lines. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.times import second

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_carbon.core.savings import Saving
    from mlflow_carbon.scheduling.advice import Advice
    from mlflow_carbon.scheduling.order import Order

__all__ = [
    "ATTRIBUTION",
    "Came",
    "came_document",
    "plan_document",
    "plan_row",
    "plan_tags",
    "span",
    "why_static",
]

PLAN_SCHEMA = "1"
ATTRIBUTION = (
    "an attribution to this one run: the same energy costed at other times with the intensities that came; "
    "not an effect on the grid, and no proof of the policy"
)
_MOST_STARTS = 400


def span(seconds: float) -> str:
    """A duration such as 2 h 05 min, 4 min 10 s or 12 s."""
    whole = max(0, round(seconds))
    if whole >= 3600:  # noqa: PLR2004 - an hour
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"  # noqa: PLR2004 - a minute


def plan_row(advice: Advice, *, at_s: float, length_s: float) -> dict[str, Any]:
    """A plan as it is kept in the state file and in `plan.json`; its end is as good as the duration given."""
    plan = advice.plan
    start_s = max(plan.start_s, at_s)  # the present slot has begun already
    return {
        "made_utc": second(at_s),
        "policy": plan.policy,
        "start_utc": second(start_s),
        "end_utc": second(start_s + length_s),
        "is_now": plan.is_now,
        "zone": plan.zone,
        "reason": "; ".join((plan.reason, *why_static(advice))),
        "source": plan.source,
        "saving_ratio": plan.saving_ratio,
        "saving_low_ratio": plan.saving_low_ratio,
        "saving_high_ratio": plan.saving_high_ratio,
        "now_gco2e_per_kwh": advice.now.gco2e_per_kwh,
        "home_gco2e_per_kwh": advice.home.gco2e_per_kwh,
        "target_gco2e_per_kwh": advice.target_gco2e_per_kwh,
        "notes": list(advice.notes),
    }


def why_static(advice: Advice) -> tuple[str, ...]:
    """Why there are no live figures to plan with, such as a missing token; nothing where there are."""
    return advice.notes if advice.forecast.kind == "static" else ()


def plan_tags(plans: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Tags of a submission: its last plan, and the saving that its first one promised.

    A later plan compares with starts at its own time. The saving and its range are modelled, from a forecast.
    """
    first, row = plans[0], plans[-1]
    ratios = (first["saving_ratio"], first["saving_low_ratio"], first["saving_high_ratio"])
    return {
        "carbon.kind": "run",
        "carbon.plan.policy": row["policy"],
        "carbon.plan.start": row["start_utc"],
        "carbon.plan.end": row["end_utc"],
        "carbon.plan.saving_ratio": "{:.3f} ({:.3f} to {:.3f})".format(*ratios),
        "carbon.plan.reason": row["reason"],
        "carbon.plan.source": row["source"],
        "carbon.plan.zone": row["zone"],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of a planned run.

    Attributes:
        saving: Against starting at once, and at the best time.
        wait_s: From the submission to the start.
        energy_kwh: What the run used; None where nobody knows, then `saving` holds for its ratios only.
        energy_from: Who says so.
        moved_to: Zone that it was moved to: both times are compared there, and the move itself is not; empty
            if it ran at home.
    """

    saving: Saving
    wait_s: float
    energy_kwh: float | None
    energy_from: str
    moved_to: str = ""

    @property
    def is_final(self) -> bool:
        """Whether all intensities are actual ones."""
        return self.saving.kind == "actual"

    def metrics(self) -> dict[str, float]:
        """Metrics at step 0; by an annual figure all times are alike, so nothing is said of other ones."""
        found = {
            "carbon/wait_s": self.wait_s,
            "carbon/intensity_training_gco2e_per_kwh": self.saving.intensity_training_gco2e_per_kwh,
        }
        if self.saving.kind == "static":
            return found
        return found | {
            "carbon/intensity_initial_gco2e_per_kwh": self.saving.intensity_initial_gco2e_per_kwh,
            "carbon/intensity_oracle_gco2e_per_kwh": self.saving.intensity_oracle_gco2e_per_kwh,
            "carbon/saving_ratio": self.saving.saving_ratio,
            "carbon/saving_oracle_ratio": self.saving.saving_oracle_ratio,
        }

    def tag(self) -> str:
        """How sure the outcome is."""
        signal = "" if self.saving.signal == "average" else f" ({self.saving.signal})"
        if self.is_final:
            return f"final: actual intensities{signal}"
        return f"not final: weakest intensity is {self.saving.kind}{signal}"

    def lines(self, expected: Mapping[str, Any] | None) -> list[str]:
        """For the terminal: what was expected, what came, what was possible."""
        saving = self.saving
        if saving.kind == "static":
            return [f"{saving.provider} does not say when it is cleaner: nothing to compare with"]
        grams = f" ({saving.saving_gco2e:+.3g} gCO2e)" if self.energy_kwh is not None else ""
        there = f" in {self.moved_to} (the move itself is not compared)" if self.moved_to else ""
        known = "" if self.is_final else ", as far as is known"
        lines = [
            (
                f"saved {saving.saving_ratio:.1%}{grams} against starting at once{there}, "
                f"{saving.saving_oracle_ratio:.1%} at the best time there was{known}"
            ),
            (
                f"intensity {saving.intensity_training_gco2e_per_kwh:.0f} gCO2e/kWh, "
                f"{saving.intensity_initial_gco2e_per_kwh:.0f} at once, "
                f"{saving.intensity_oracle_gco2e_per_kwh:.0f} at best ({saving.signal}, {saving.provider})"
            ),
            f"{self.tag()}; energy: {self.energy_from}; for this one run, not an effect on the grid",
        ]
        if expected is not None:
            lines.insert(
                0,
                "expected to save {:.1%} ({:.1%} to {:.1%})".format(
                    expected["saving_ratio"], expected["saving_low_ratio"], expected["saving_high_ratio"]
                ),
            )
        return lines


def came_document(came: Came) -> dict[str, Any]:
    """The outcome for `plan.json`."""
    saving = asdict(came.saving)
    if came.energy_kwh is None:
        saving = {key: value for key, value in saving.items() if not key.endswith("_gco2e")}
    return {
        **saving,
        "saving_ratio": came.saving.saving_ratio,
        "saving_oracle_ratio": came.saving.saving_oracle_ratio,
        "wait_s": came.wait_s,
        "energy_kwh": came.energy_kwh,
        "energy_from": came.energy_from,
        "is_final": came.is_final,
        "moved_to": came.moved_to,
        "meaning": ATTRIBUTION,
    }


def plan_document(order: Order, first: Advice | None, plans: list[Mapping[str, Any]]) -> dict[str, Any]:
    """`plan.json`: the order, what the first plan rested on, each plan that differed from the one before."""
    return {
        "schema": PLAN_SCHEMA,
        "submitted_utc": second(order.submitted_s),
        "latest_start_utc": second(order.latest_start_s),
        "finish_by_utc": second(order.finish_by_s) if order.finish_by_s is not None else None,
        "policy": order.policy,
        "duration_s": order.job.length_s,
        "power_w": order.job.power_w,
        "idle_w": order.job.idle_w,
        "regions": [asdict(place) for place in order.places],
        "plans": plans,
        "forecast": _forecast(first) if first is not None else None,
        "alternatives": _alternatives(order, first) if first is not None else [],
    }


def _forecast(advice: Advice) -> dict[str, Any]:
    return {
        **asdict(advice.forecast),
        "zone": advice.intensity.zone,
        "provider": advice.intensity.provider,
        "signal": advice.intensity.signal,
        "scope": advice.intensity.scope,
        "dataset": advice.intensity.dataset,
    }


def _alternatives(order: Order, advice: Advice) -> list[dict[str, Any]]:
    """Expected mean intensity of the run for each start that the wait allows, without idling."""
    forecast = advice.forecast
    length, starts, _ = order.job_at(forecast.start_s).in_slots(forecast)
    return [
        {
            "start_utc": second(forecast.start_s + i * forecast.step_s),
            "gco2e_per_kwh": sum(forecast.values[i : i + length]) / length,
        }
        for i in range(min(starts, _MOST_STARTS))
    ]

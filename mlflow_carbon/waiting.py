"""Wait for a cleaner grid before a training starts, holding the process.

Where the machine idles meanwhile, waiting can cost more than it saves: name its idle power, and the plan
counts it. Without live figures of a zone that the user named there is nothing to wait for: everything starts
at once then, with the reason written down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, Unpack

from mlflow_carbon import grid, settings
from mlflow_carbon.core.plans import Job, Terms
from mlflow_carbon.core.savings import Saving
from mlflow_carbon.errors import SettingsError
from mlflow_carbon.scheduling.advice import system_look
from mlflow_carbon.scheduling.order import Order
from mlflow_carbon.scheduling.outcome import outcome
from mlflow_carbon.scheduling.wait import Progress, SystemClock, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.scheduling.advice import Look
    from mlflow_carbon.scheduling.wait import WaitClock

__all__ = ["Progress", "Saving", "Wait", "WaitOptions", "wait_until_clean"]

_POLICIES = ("now", "threshold", "percentile", "window")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What came of waiting.

    Attributes:
        wait_s: How long it took, in seconds.
        initial_gco2e_per_kwh: Intensity when the wait began.
        training_gco2e_per_kwh: Intensity when it ended and the training may start.
        kind: `actual`, `forecast`, `estimated` or `static`, of the latter.
        provider: Who says so.
        policy: Which policy decided.
        reason: Why the training starts now.
        order: What was asked for.
        started_s: When the wait ended, UTC seconds since the epoch.
    """

    wait_s: float
    initial_gco2e_per_kwh: float
    training_gco2e_per_kwh: float
    kind: str
    provider: str
    policy: str
    reason: str
    order: Order
    started_s: float

    def saved(
        self,
        energy_kwh: float,
        *,
        idle_w: float | None = None,
        ended_s: float | None = None,
        look: Look | None = None,
    ) -> Saving:
        """What the wait was worth, by the intensities that came; asks the grid once more.

        Args:
            energy_kwh: Energy of the training, times the PUE for figures of the whole facility.
            idle_w: Power of the machine while it waited; None takes what was given before.
            ended_s: When it ended; None for now.
            look: How the grid is asked; None asks it as the settings say.
        """
        job = self.order.job if idle_w is None else replace(self.order.job, idle_w=idle_w)
        return outcome(
            replace(self.order, job=job),
            look or _system_look(),
            started_s=self.started_s,
            # A clock that was set back meanwhile is no reason to fail after a training.
            ended_s=max(SystemClock().wall_s(), self.started_s + 1e-3) if ended_s is None else ended_s,
            energy_kwh=energy_kwh,
        )


class WaitOptions(TypedDict, total=False):
    """Keyword arguments of `wait_until_clean`; what is left out has its default.

    Attributes:
        duration_s: How long the training will last, in seconds; an estimate. Default 3600.
        threshold_gco2e_per_kwh: For the policy `threshold`: start at this intensity or below.
        policy: `window` (the cleanest window by forecast), `threshold`, `percentile` or `now`. By default
            `threshold` where a threshold is given, else `window`.
        zone: Grid zone id; by default that of the settings. Only a zone that is named has live figures.
        power_w: Mean power of the training; only its ratio to `idle_w` matters here. Default 300.
        idle_w: Power of this machine while it waits, above what it would use if it were not held. Default 0.
    """

    duration_s: float
    threshold_gco2e_per_kwh: float | None
    policy: str | None
    zone: str | None
    power_w: float
    idle_w: float


def wait_until_clean(
    *,
    max_wait_s: float,
    progress: Callable[[Progress], None] | None = None,
    clock: WaitClock | None = None,
    look: Look | None = None,
    **options: Unpack[WaitOptions],
) -> Wait:
    """Wait until it is a good time to start, but never longer than allowed.

    Plans anew at each slot boundary (half hours in Great Britain). Network trouble is not an error: without
    live figures there is nothing to wait for, and the reason says so.

    Args:
        max_wait_s: Longest wait, in seconds.
        progress: Called about once a second.
        clock: Clocks and sleep; None takes those of the system.
        look: How the grid is asked; None asks it as the settings say.
        **options: See `WaitOptions`.

    Raises:
        SettingsError: If an argument is no number of its kind, or the policy lacks its threshold.
        ZoneError: If nobody knows the zone.
    """
    used = clock or SystemClock()
    order = _order(max_wait_s, used.wall_s(), options)
    done = wait(order, look or _system_look(), clock=used, progress=progress)
    series = done.last.intensity
    started_s = used.wall_s()
    # The slot that was planned in; where no wait was left, the present one.
    now = done.last.now if done.last.plan.is_now else series.at(started_s)
    return Wait(
        wait_s=done.wait_s,
        initial_gco2e_per_kwh=done.first.home.gco2e_per_kwh,
        training_gco2e_per_kwh=now.gco2e_per_kwh,
        kind=now.kind,
        provider=series.static_provider if now.kind == "static" else now.source or series.provider,
        policy=order.policy,
        reason="; ".join((done.reason, *done.last.notes)),
        order=order,
        started_s=started_s,
    )


def _order(max_wait_s: float, now_s: float, options: WaitOptions) -> Order:
    """What the arguments ask for, checked before any wait begins."""
    unknown = set(options) - set(WaitOptions.__annotations__)
    if unknown:
        raise SettingsError(f"expected {', '.join(WaitOptions.__annotations__)}, got {', '.join(unknown)}")
    threshold = options.get("threshold_gco2e_per_kwh")
    name = options.get("policy") or ("window" if threshold is None else "threshold")
    if name not in _POLICIES:
        raise SettingsError(f"policy: expected one of {', '.join(_POLICIES)}, got {name!r}")
    if name == "threshold" and threshold is None:
        raise SettingsError("policy=threshold: expected threshold_gco2e_per_kwh as well, got none")
    if threshold is not None:
        _checked("threshold_gco2e_per_kwh", threshold)
    given, _ = settings.resolve({"zone": options.get("zone")})
    if given.zone is not None:
        grid.zones.check(given.zone)
    return Order(
        settings=given,
        job=Job(
            length_s=_checked("duration_s", options.get("duration_s", 3600.0), least=1.0),
            max_wait_s=_checked("max_wait_s", max_wait_s),
            power_w=_checked("power_w", options.get("power_w", 300.0), least=0.001),
            idle_w=_checked("idle_w", options.get("idle_w", 0.0)),
        ),
        submitted_s=now_s,
        policy=name,
        terms=Terms(threshold_gco2e_per_kwh=threshold),
    )


def _checked(name: str, value: float, *, least: float = 0.0) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value < math.inf:
        raise SettingsError(f"{name}: expected a number of at least {least:g}, got {value!r}")
    return float(value)


def _system_look() -> Look:
    """The grid as the settings of this process say."""
    return system_look(grid.Access(cache=grid.fetch.Cache(folder=settings.home() / "grid")))

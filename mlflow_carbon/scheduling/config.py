"""The configuration of the project backend: a JSON object, checked whole before anything is done."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from mlflow_carbon import grid, settings
from mlflow_carbon.core.plans import Job, Terms
from mlflow_carbon.core.times import moment
from mlflow_carbon.errors import SettingsError
from mlflow_carbon.scheduling.order import Order, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_carbon.settings import Settings

__all__ = ["PlanConfig", "Target", "parse"]

POLICIES = ("now", "threshold", "percentile", "window", "region")
_KEYS = (
    "zone",
    "grid",
    "duration_h",
    "deadline",
    "max_wait_h",
    "power_w",
    "idle_w",
    "policy",
    "threshold_gco2e_per_kwh",
    "min_gain_ratio",
    "backend",
    "backend_config",
    "regions",
)
_REGION_KEYS = ("transfer_kwh", "backend", "backend_config")
_H = 3600.0
_LONGEST_WAIT_H = 168.0
_LONGEST_RUN_H = 8784.0
_MOST_W = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What runs the project: the name of a backend of MLflow, and its own configuration."""

    backend: str = "local"
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanConfig:
    """What is asked for, in SI units and absolute times.

    Attributes:
        settings: Zone and source of intensities, with environment and settings file behind the configuration.
        given: `zone` and `grid` as far as the configuration names them.
        job: Length, longest wait and powers.
        finish_by_s: UTC time by which it should be over; None for no such time.
        policy: Which policy decides.
        terms: When waiting is worth it.
        home: What runs it, unless it is moved.
        away: The same by zone, for `region`.
        places: Where else it may run.
    """

    settings: Settings
    given: Mapping[str, str]
    job: Job
    finish_by_s: float | None
    policy: str
    terms: Terms
    home: Target
    away: Mapping[str, Target]
    places: tuple[Place, ...]

    def order(self, *, submitted_s: float, max_wait_s: float, finish_by_s: float | None) -> Order:
        """The order as of its submission; a restarted one keeps the times it had."""
        job = Job(
            length_s=self.job.length_s,
            max_wait_s=max_wait_s,
            power_w=self.job.power_w,
            idle_w=self.job.idle_w,
        )
        return Order(
            settings=self.settings,
            job=job,
            submitted_s=submitted_s,
            finish_by_s=finish_by_s,
            policy=self.policy,
            terms=self.terms,
            places=self.places,
        )

    def target(self, zone: str) -> Target:
        """What runs the project in a zone."""
        return self.away.get(zone, self.home)

    def targets(self) -> tuple[Target, ...]:
        """All that may run it."""
        return (self.home, *self.away.values())


def parse(raw: Mapping[str, Any]) -> PlanConfig:
    """Check a configuration.

    Raises:
        SettingsError: What was expected, what was got, what to do; for the first thing that is wrong.
        ZoneError: If nobody knows a zone.
    """
    _known("the configuration", raw, _KEYS)
    policy = _policy(raw)
    home = _target("", raw, Target())
    places, away = _regions(raw.get("regions", {}), home)
    given = {name: _text(name, raw[name]) for name in ("zone", "grid") if raw.get(name) is not None}
    found, _ = settings.resolve(given)
    if found.zone is not None:
        grid.zones.check(found.zone)
    if found.zone in away:
        raise SettingsError(f"regions: expected zones other than home, got {found.zone}; leave it out")
    threshold = raw.get("threshold_gco2e_per_kwh")
    return PlanConfig(
        settings=found,
        given=given,
        job=Job(
            length_s=_number("duration_h", raw.get("duration_h", 1.0), least=1 / _H, most=_LONGEST_RUN_H)
            * _H,
            max_wait_s=_max_wait_s(raw, policy),
            power_w=_number("power_w", raw.get("power_w", 300.0), least=0.001, most=_MOST_W),
            idle_w=_number("idle_w", raw.get("idle_w", 0.0), most=_MOST_W),
        ),
        finish_by_s=_deadline_s(raw.get("deadline")),
        policy=policy,
        terms=Terms(
            min_gain_ratio=_number("min_gain_ratio", raw.get("min_gain_ratio", 0.03), most=1.0),
            threshold_gco2e_per_kwh=None
            if threshold is None
            else _number("threshold_gco2e_per_kwh", threshold, most=5000.0),
        ),
        home=home,
        away=away,
        places=places,
    )


def _known(where: str, raw: Mapping[str, Any], keys: Iterable[str]) -> None:
    names = tuple(keys)
    for key in raw:
        if key not in names:
            near = get_close_matches(str(key), names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{where}: unknown key {key!r}: expected some of {', '.join(names)}{hint}")


def _policy(raw: Mapping[str, Any]) -> str:
    has_regions, has_threshold = bool(raw.get("regions")), raw.get("threshold_gco2e_per_kwh") is not None
    default = "region" if has_regions else "threshold" if has_threshold else "window"
    policy = raw.get("policy") or default
    if policy == "interruptible":
        raise SettingsError(
            "policy: expected one that starts once, got 'interruptible': any project can be started later, "
            "but none that this backend knows can be paused; take `window`"
        )
    if policy not in POLICIES:
        near = get_close_matches(str(policy), POLICIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"policy: expected one of {', '.join(POLICIES)}, got {policy!r}{hint}")
    if (policy == "region") != has_regions:
        raise SettingsError(f"policy={policy}: expected `regions` with the policy region, and only with it")
    if (policy == "threshold") != has_threshold:
        raise SettingsError(
            f"policy={policy}: expected threshold_gco2e_per_kwh with the policy threshold, and only with it"
        )
    return str(policy)


def _max_wait_s(raw: Mapping[str, Any], policy: str) -> float:
    """The longest wait; where only a deadline is named, that binds."""
    if raw.get("max_wait_h") is not None:
        return _number("max_wait_h", raw["max_wait_h"], most=_LONGEST_WAIT_H) * _H
    if raw.get("deadline") is not None:
        return _LONGEST_WAIT_H * _H
    if policy in {"now", "region"}:
        return 0.0
    raise SettingsError(
        "the configuration: expected max_wait_h (hours) or deadline (by when it must be over), got neither; "
        'for example -c \'{"zone": "GB", "duration_h": 4, "max_wait_h": 24}\''
    )


def _deadline_s(raw: Any) -> float | None:
    if raw is None:
        return None
    found = moment(raw) if isinstance(raw, str) else None
    if found is None:
        raise SettingsError(
            "deadline: expected an ISO 8601 time with its offset, such as 2026-03-01T06:00Z or "
            f"2026-03-01T07:00+01:00, got {raw!r}"
        )
    return found


def _regions(raw: Any, home: Target) -> tuple[tuple[Place, ...], dict[str, Target]]:
    if not isinstance(raw, dict):
        raise SettingsError(f'regions: expected an object such as {{"DE": {{}}}}, got {type(raw).__name__}')
    places, away = [], {}
    for zone, told in raw.items():
        grid.zones.check(zone)
        if not isinstance(told, dict):
            raise SettingsError(f"regions.{zone}: expected an object, got {type(told).__name__}")
        _known(f"regions.{zone}", told, _REGION_KEYS)
        moved = _number(f"regions.{zone}.transfer_kwh", told.get("transfer_kwh", 0.0), most=1e6)
        places.append(Place(zone=zone, transfer_kwh=moved))
        away[zone] = _target(f"regions.{zone}.", told, home)
    return tuple(places), away


def _target(where: str, raw: Mapping[str, Any], behind: Target) -> Target:
    """Backend and its configuration; the configuration behind is of that backend only."""
    name = raw.get("backend", behind.backend)
    if not isinstance(name, str) or not name or name == "carbon":
        raise SettingsError(
            f"{where}backend: expected a backend of MLflow to wrap, such as local, got {name!r}"
        )
    own = raw.get("backend_config", behind.config if name == behind.backend else {})
    if not isinstance(own, dict):
        raise SettingsError(f"{where}backend_config: expected an object, got {type(own).__name__}")
    return Target(backend=name, config=own)


def _text(name: str, raw: Any) -> str:
    if not isinstance(raw, str):
        raise SettingsError(f"{name}: expected text, got {raw!r}")
    return raw


def _number(name: str, raw: Any, *, least: float = 0.0, most: float) -> float:
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if not is_number or not math.isfinite(raw) or not least <= raw <= most:
        raise SettingsError(f"{name}: expected a number from {least:g} to {most:g}, got {raw!r}")
    return float(raw)

"""What a planned run was worth, logged beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.units import j_to_kwh
from mlflow_carbon.scheduling.account import Came, came_document, plan_document
from mlflow_carbon.scheduling.advice import elsewhere
from mlflow_carbon.scheduling.outcome import outcome
from mlflow_carbon.store import Point

if TYPE_CHECKING:
    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.scheduling.advice import Advice
    from mlflow_carbon.scheduling.config import PlanConfig
    from mlflow_carbon.scheduling.order import Order
    from mlflow_carbon.scheduling.state import State
    from mlflow_carbon.scheduling.submission import World

__all__ = ["Over", "settle"]

_ENERGY, _PUE = "carbon/energy_kwh", "carbon/pue_ratio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A planned run that is over.

    Attributes:
        run_id: The run that holds the training.
        order: What was asked for.
        state: Its plans.
        started_s: When it started, UTC seconds since the epoch.
        ended_s: When it ended.
        first: The first advice, if this process had it.
        footprint: Of this machine around the training, if it was measured.
    """

    run_id: str
    order: Order
    state: State
    started_s: float
    ended_s: float
    first: Advice | None = None
    footprint: RunFootprint | None = None


def settle(over: Over, config: PlanConfig, world: World) -> None:
    """Compare, log and tell.

    Raises:
        StoreError: If the server does not take it.
    """
    came = _came(over, config, world)
    run = world.project.run(over.run_id)
    t_ms = int(over.ended_s * 1000)
    run.write_points([Point(key=k, value=v, step=0, t_ms=t_ms) for k, v in came.metrics().items()])
    run.write_tags({"carbon.plan.outcome": came.tag()})
    document = plan_document(over.order, over.first, list(over.state.plans))
    document["outcome"] = came_document(came)
    run.write_file("plan.json", (json.dumps(document, indent=2, default=str) + "\n").encode())
    expected = over.state.plans[0] if over.state.plans else None
    for line in came.lines(expected):
        world.display.line(line)


def _came(over: Over, config: PlanConfig, world: World) -> Came:
    energy_kwh, pue_ratio, source = _energy(over, config, world)
    place = next((p for p in config.places if p.zone == over.state.zone), None)
    job = over.order.job
    planned_kwh = j_to_kwh(job.power_w * (over.ended_s - over.started_s))
    return Came(
        saving=outcome(
            # What was idled passes through the same facility as what was used.
            replace(over.order, job=replace(job, idle_w=job.idle_w * pue_ratio)),
            world.look,
            started_s=over.started_s,
            ended_s=over.ended_s,
            energy_kwh=(planned_kwh if energy_kwh is None else energy_kwh) * pue_ratio,
            where=elsewhere(over.order, place) if place is not None else None,
        ),
        wait_s=max(0.0, over.started_s - over.order.submitted_s),
        energy_kwh=energy_kwh,
        energy_from=source,
        moved_to=place.zone if place is not None else "",
    )


def _energy(over: Over, config: PlanConfig, world: World) -> tuple[float | None, float, str]:
    """Energy of the training and the PUE it was costed with: its own, else ours around it, else nobody's."""
    metrics = world.project.run(over.run_id).read_metrics()
    if _ENERGY in metrics:
        return metrics[_ENERGY], metrics.get(_PUE, 1.0), "the run's own figure"
    measured = over.footprint
    if measured is not None and measured.energy_kwh is not None:
        world.project.publish(over.run_id, measured)
        return (
            measured.energy_kwh,
            measured.pue_ratio or 1.0,
            f"this machine around the run ({measured.basis})",
        )
    target = config.target(over.state.zone)
    away = "it ran elsewhere" if target.backend != "local" else "nothing could be measured"
    return None, 1.0, f"unknown ({away}), so ratios only"

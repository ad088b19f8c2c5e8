"""Finishes a run whose process is gone, from the journal it left. Doing it twice changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon import journal as journals
from mlflow_carbon.errors import JournalError, RefusedError, StoreError
from mlflow_carbon.session import final, publish
from mlflow_carbon.session.delivery import Delivery, End, Points, Tags, deliver
from mlflow_carbon.session.machines import Node
from mlflow_carbon.session.node_sink import node_view
from mlflow_carbon.session.past import Past, read_past
from mlflow_carbon.session.replay import Replay, replay, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.publish import Costing

__all__ = ["Recovered", "recover"]

_KILLED = "KILLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What became of one journal.

    Attributes:
        path: The journal.
        run_id: Its run, where that could be read.
        outcome: `stored`, `empty` (nothing to store, removed) or `failed`.
        detail: Figures stored, or why not.
    """

    path: Path
    run_id: str
    outcome: str
    detail: str


def recover(
    path: Path,
    *,
    sink: Callable[[str, str], Sink],
    costing: Callable[[int, int], Costing],
    end_run: bool,
) -> Recovered:
    """Store what a dead process measured, then remove its journal.

    Args:
        path: The journal; its writer must be gone.
        sink: Opens the store of a run id and tracking URI.
        costing: Costs a UTC span in seconds, for a journal that died before it was costed.
        end_run: Whether to end the run as KILLED where it still counts as running.
    """
    run_id = ""
    try:
        if path.stat().st_size == 0:  # killed, or the disk was full, before its first record
            path.unlink(missing_ok=True)
            return Recovered(path=path, run_id="", outcome="empty", detail="nothing was written")
        contents = journals.read(path)
        state = survey(contents.records)
        run_id = state.run_id
        if not state.header.get("stored", True):
            path.unlink(missing_ok=True)
            return Recovered(path=path, run_id=run_id, outcome="empty", detail="no run to store it in")
        target = node_view(
            sink(run_id, str(state.header.get("tracking_uri", ""))),
            run_id,
            Node.from_record(state.header.get("node")),
            detail=bool(state.header.get("detail")),
        )
        if state.is_empty:
            items, figures = _nothing()
        else:
            items, figures = _fold(state, contents, path=path, sink=target, costing=costing)
        if end_run:
            items.append(End(_status(state), _end_ms(state)))
        refused = _deliver(target, items)
        if refused:
            return Recovered(path=path, run_id=run_id, outcome="failed", detail=refused)
    except (JournalError, StoreError, OSError) as error:
        return Recovered(path=path, run_id=run_id, outcome="failed", detail=str(error))
    except (KeyError, TypeError, ValueError) as error:
        detail = f"a record cannot be read: {type(error).__name__}: {error}"
        return Recovered(path=path, run_id=run_id, outcome="failed", detail=detail)
    path.unlink(missing_ok=True)
    outcome = "empty" if state.is_empty else "stored"
    return Recovered(path=path, run_id=run_id, outcome=outcome, detail=figures)


def _deliver(sink: Sink, items: Iterable[Delivery]) -> str:
    """Store what the store takes; what it does not take at all, in words.

    Raises:
        StoreError: If it could not be reached: what comes next could neither.
    """
    refused = []
    for item in items:
        try:
            deliver(sink, item)
        except RefusedError as error:
            refused.append(str(error))
    more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
    return f"refused by the store: {refused[0]}{more}" if refused else ""


def _nothing() -> tuple[list[Delivery], str]:
    """For a run that died before its first reading: it says so, and is ended like any other."""
    error = "the process was killed before the first reading"
    return [Tags({"carbon.error": error, "carbon.verdict": "warn"})], "no readings to store"


def _fold(
    state: Replay,
    contents: journals.Contents,
    *,
    path: Path,
    sink: Sink,
    costing: Callable[[int, int], Costing],
) -> tuple[list[Delivery], str]:
    """Go through the readings and store points on the way; what is to be stored then, and the figures."""
    cost = state.costing or costing(*_span_s(state))
    past = read_past(sink)
    if state.past is None and state.header.get("resumed"):
        # It died before it knew its past, and so before it logged anything. From now on there will be figures
        # of its own: kept in the journal, the past is still known where this try fails.
        journals.append(path, "offset", **past.record())
        state.past = past
    segment_id = str(state.header["segment_id"])
    previous = (state.past or Past()).with_stored(list(past.segments), segment_id)
    earlier, bill = [s for s in previous if s.is_before(segment_id)], cost.bill()
    refusals: list[str] = []  # of points: a chart with a hole, but the readings are stored with the rest

    def tell(state: Replay) -> None:
        points = [
            *(
                point
                for snapshot in state.snapshots
                for point in publish.snapshot_points(
                    snapshot, cost, earlier, offset_s=state.offset_s, bill=bill
                )
            ),
            *publish.step_points(state.marks, cost, earlier, bill=bill),
        ]
        refusals.append(_deliver(sink, [Points(tuple(points))]))

    replay(contents.records, state, tell=tell)
    ending = state.ending(cost, previous, troubles=_troubles(state, contents, refusals))
    own, _ = final.footprint(ending)
    tags = dict(state.environment["tags"]) if state.environment else {}
    items: list[Delivery] = [
        Tags({**tags, **publish.start_tags(cost)}),
        *final.deliveries(ending, contents.records),
    ]
    energy = "no energy" if own.energy_kwh is None else f"{own.energy_kwh:.3g} kWh"
    return items, f"{energy} in {own.duration_s or 0:.1f} s ({own.basis})"


def _troubles(state: Replay, contents: journals.Contents, refusals: Iterable[str]) -> list[str]:
    troubles = list(state.end.get("troubles", ())) if state.end is not None else []
    if state.end is None:
        troubles.append("the process was killed; recovered from its journal up to the last reading")
    if contents.damaged:
        troubles.append(
            f"{len(contents.damaged)} damaged journal record(s), first in line {contents.damaged[0]}"
        )
    return [*troubles, *(text for text in list(filter(None, refusals))[:1] if text not in troubles)]


def _status(state: Replay) -> str:
    return str(state.end.get("status") or _KILLED) if state.end is not None else _KILLED


def _end_ms(state: Replay) -> int:
    """When the run ended: at its recorded end, else at its last reading; not when it is recovered."""
    return state.wall_end_ns // 1_000_000


def _span_s(state: Replay) -> tuple[int, int]:
    return int(state.header["start_wall_ns"]) // 10**9, state.wall_end_ns // 10**9 + 1

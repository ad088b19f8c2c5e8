"""A span rebuilt from its journal: the same fold over the same records as when it was live."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_carbon._version import SCHEMA
from mlflow_carbon.core.recording import Recording
from mlflow_carbon.errors import JournalError
from mlflow_carbon.session.final import Ending
from mlflow_carbon.session.past import Past
from mlflow_carbon.session.records import channel_from, costing_from, tick_from
from mlflow_carbon.session.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlflow_carbon.core.recording import Snapshot, StepMark
    from mlflow_carbon.session.publish import Costing, Segment

__all__ = ["Replay", "replay", "survey"]

_PORTION = 400  # snapshots and marks: about a thousand points, one call of MLflow


@dataclass(slots=True, kw_only=True)
class Replay:
    """What a journal says about a span.

    Attributes:
        header: Its first record.
        recording: Its readings, folded; None if it died before the first.
        costing: How it was costed; None if that was not yet known.
        snapshots: Points that may not have been stored.
        marks: Step marks that may not have been stored.
        end: The record of a regular end; None after a kill.
        environment: Tags and document of the environment, where they were known.
        absences: Sensors that were not found.
        units: Functional units counted.
        past: The earlier segments of a resumed run; None if it died before they were read.
        early: Step marks before the first reading: monotonic time and step.
        shared: Whether other runs used the machine at the same time.
        is_empty: Whether it had not yet found its sensors.
        last: Monotonic and UTC nanoseconds of the last reading.
        sent_ns: Monotonic time up to which points were stored.
    """

    header: Mapping[str, Any]
    recording: Recording | None = None
    costing: Costing | None = None
    snapshots: list[Snapshot] = field(default_factory=list)
    marks: list[StepMark] = field(default_factory=list)
    end: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None
    absences: Sequence[Mapping[str, str]] = ()
    units: Mapping[str, float] = field(default_factory=dict)
    past: Past | None = None
    early: list[tuple[int, int]] = field(default_factory=list)
    shared: bool = False
    is_empty: bool = True
    last: tuple[int, int] | None = None
    sent_ns: int = -1

    @property
    def run_id(self) -> str:
        """The run."""
        return str(self.header["run_id"])

    @property
    def offset_s(self) -> int:
        """Where the time axis of a resumed run went on."""
        return self.past.offset_s if self.past is not None else 0

    @property
    def end_ns(self) -> int:
        """Monotonic end: as recorded, else the last reading."""
        if self.end is not None:
            return int(self.end["end_mono_ns"])
        return self.last[0] if self.last is not None else int(self.header["start_mono_ns"])

    @property
    def wall_end_ns(self) -> int:
        """UTC end, by the last reading's clocks."""
        if self.last is not None:
            t_ns, wall_ns = self.last
            return self.end_ns + wall_ns - t_ns
        return self.end_ns + int(self.header["start_wall_ns"]) - int(self.header["start_mono_ns"])

    def ending(self, costing: Costing, previous: Sequence[Segment], *, troubles: Sequence[str]) -> Ending:
        """The span as `final` wants it."""
        if self.recording is None:
            raise JournalError(f"expected readings in the journal of run {self.run_id}, got none")
        usage = self.end.get("usage") if self.end is not None else None
        return Ending(
            run_id=self.run_id,
            segment_id=str(self.header["segment_id"]),
            end_ns=self.end_ns,
            recording=self.recording,
            costing=costing,
            period_s=float(self.header["period_s"]),
            units=self.units,
            usage=Usage(**usage) if usage else None,
            troubles=troubles,
            shared=self.shared,
            detail=bool(self.header["detail"]),
            previous=previous,
            offset_s=self.offset_s,
            absences=self.absences,
            environment=self.environment["document"] if self.environment else None,
        )


def survey(records: Callable[[], Iterable[Mapping[str, Any]]]) -> Replay:
    """What a journal says besides its readings, by going through it once.

    Raises:
        JournalError: If it has no header of a schema this version reads.
    """
    found = iter(records())
    first = next(found, {})
    if first.get("kind") != "header" or first.get("schema") != SCHEMA:
        got = f"{first.get('kind', 'nothing')} {first.get('schema', '')}".strip()
        raise JournalError(f"expected a journal that starts with a header of schema {SCHEMA}, got {got}")
    state = Replay(header=first)
    for record in found:
        _note(state, record)
    return state


def replay(
    records: Callable[[], Iterable[Mapping[str, Any]]],
    state: Replay | None = None,
    *,
    tell: Callable[[Replay], None] | None = None,
) -> Replay:
    """Fold a journal's records, in memory that does not grow with their number.

    Args:
        records: Opens them.
        state: What `survey` found.
        tell: Takes snapshots and marks, a few hundred at a time; they are forgotten then. None: all are kept.

    Raises:
        JournalError: If it has no header of a schema this version reads, or readings of unknown channels.
    """
    state = state or survey(records)
    for record in records():
        _take(state, record)
        if tell is not None and len(state.snapshots) + len(state.marks) >= _PORTION:
            _hand_over(state, tell)
    if tell is not None:
        _hand_over(state, tell)
    if state.end is not None and state.recording is not None:
        state.recording.count_entries(state.end.get("entries", {}))
    return state


def _hand_over(state: Replay, tell: Callable[[Replay], None]) -> None:
    tell(state)
    state.snapshots, state.marks = [], []


def _note(state: Replay, record: Mapping[str, Any]) -> None:
    match record.get("kind"):
        case "channels":
            state.is_empty = False
        case "tick":
            state.is_empty, state.last = False, (record["t"], record["w"])
        case "sent":
            state.sent_ns = max(state.sent_ns, record["t"])
        case _:
            _note_fact(state, record)


def _note_fact(state: Replay, record: Mapping[str, Any]) -> None:
    match record.get("kind"):
        case "costing":
            state.costing = costing_from(record["costing"])
        case "offset":
            state.past = Past.from_record(record)
        case "environment":
            state.environment = record
        case "shared":
            state.shared = True
        case "end":
            state.end = record


def _take(state: Replay, record: Mapping[str, Any]) -> None:
    match record.get("kind"):
        case "channels":
            _open(state, record)
        case "tick":
            _take_tick(state, record)
        case "step":
            if state.recording is not None:
                state.recording.mark(record["t"], record["step"])
            else:
                state.early.append((record["t"], record["step"]))


def _open(state: Replay, record: Mapping[str, Any]) -> None:
    start_ns = state.header["start_mono_ns"]
    state.recording = Recording(
        [channel_from(c) for c in record["channels"]],
        start_ns=start_ns,
        wall_offset_ns=state.header["start_wall_ns"] - start_ns,
        period_s=state.header["period_s"],
    )
    for t_ns, step in state.early:
        state.recording.mark(t_ns, step)
    state.absences = record.get("absences", ())


def _take_tick(state: Replay, record: Mapping[str, Any]) -> None:
    if state.recording is None:
        raise JournalError(
            f"expected a channels record before the first reading of run {state.run_id}, got none: "
            "it is damaged, and without it the readings have no meaning"
        )
    state.units = record.get("u", state.units)
    end_ns = state.end["end_mono_ns"] if state.end is not None else None
    state.recording.count_entries(record.get("pe", {}))
    snapshot, marks = state.recording.add(
        tick_from(record), record.get("ph"), tail=record.get("pt", []), end_ns=end_ns
    )
    if state.recording.last_ns <= state.sent_ns:
        return
    if snapshot is not None:
        state.snapshots.append(snapshot)
    state.marks.extend(marks)

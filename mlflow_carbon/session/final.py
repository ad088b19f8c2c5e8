"""Everything that is stored when a run's figures stand. Pure, so that `recover` stores the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.beside import limited
from mlflow_carbon.core.report import note
from mlflow_carbon.core.rules import judge
from mlflow_carbon.core.totals import combine, count_units
from mlflow_carbon.session import publish
from mlflow_carbon.session.delivery import Delivery, File, Note, Points, Tags
from mlflow_carbon.session.records import channel_record
from mlflow_carbon.session.samples import packed_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlflow_carbon.core.bill import Bill
    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.core.recording import Recording
    from mlflow_carbon.session.publish import Costing, Segment
    from mlflow_carbon.session.usage import Usage

__all__ = ["Ending", "deliveries", "footprint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A span whose end is known.

    Attributes:
        run_id: MLflow run id.
        segment_id: Identifies the span among the segments of its run.
        end_ns: Monotonic end.
        recording: Its readings.
        costing: How it is costed.
        bill: One of this costing that knows the span, where there is one.
        period_s: Sampling period.
        units: Functional units counted, by name.
        usage: CPU time, where it is known.
        troubles: What went wrong besides the sensors.
        shared: Whether other runs used the machine at the same time.
        detail: Whether every number becomes a metric.
        previous: Earlier segments of the run.
        offset_s: Where the time axis of a resumed run goes on.
        absences: Sensors that were not found: name, reason, remedy.
        environment: The environment document, where there is one.
    """

    run_id: str
    segment_id: str
    end_ns: int
    recording: Recording
    costing: Costing
    period_s: float
    bill: Bill | None = None
    units: Mapping[str, float] = field(default_factory=dict)
    usage: Usage | None = None
    troubles: Sequence[str] = ()
    shared: bool = False
    detail: bool = False
    previous: Sequence[Segment] = ()
    offset_s: int = 0
    absences: Sequence[Mapping[str, str]] = ()
    environment: Mapping[str, Any] | None = None


def footprint(ending: Ending) -> tuple[RunFootprint, tuple[str, ...]]:
    """The footprint of the span itself, with its verdict, and the findings in words."""
    recording = ending.recording
    series = recording.series(ending.end_ns)
    verdict, found = judge(series, recording.errors, recording.ticks, ending.troubles)
    findings = (*found, *limited(recording.facts()))  # a device held down is slow, its energy is complete
    figures = replace(ending.costing.footprint(series, ending.bill), verdict=verdict)
    if ending.usage is not None:
        figures = replace(
            figures,
            process_cpu_s=ending.usage.process_s,
            overhead_ratio=_ratio(ending.usage.own_s, ending.usage.process_s),
            process_cpu_ratio=_ratio(ending.usage.process_s, ending.usage.machine_s),
        )
    for unit, amount in ending.units.items():
        return count_units(figures, unit, amount), findings
    return figures, findings


def deliveries(ending: Ending, records: Callable[[], Iterable[Mapping[str, Any]]]) -> list[Delivery]:
    """What is stored at the end: last point, summary, tags, note and documents, in this order.

    Args:
        ending: The span.
        records: Its journal, gone through when the readings are stored.
    """
    own, findings = footprint(ending)
    others = [s for s in ending.previous if s.id != ending.segment_id]
    earlier = [s for s in others if s.is_before(ending.segment_id)]
    later = [s for s in others if s not in earlier]  # of a run that went on before this was recovered
    samples = _samples_name(ending)
    segments = [*earlier, publish.Segment(id=ending.segment_id, footprint=own, samples=samples), *later]
    whole = combine([s.footprint for s in segments])
    snapshot = ending.recording.close(ending.end_ns)
    phases, beside = ending.recording.phases(), ending.recording.facts()
    # Not before the summary of another segment, whose host's clock may be ahead: the latest is what is shown.
    t_ms = max(snapshot.t_wall_ns // 1_000_000, *(s.end_ms for s in others), 0)
    facts: dict[str, Any] = {
        "findings": list(findings),
        "absences": [dict(a) for a in ending.absences],
        "channels": [channel_record(c) for c in ending.recording.channels],
    }
    if ending.costing.site is not None:
        facts["cloud"] = asdict(ending.costing.site)
    document = publish.footprint_document(ending.run_id, segments, facts)
    files: dict[str, bytes | Callable[[], Iterable[bytes]]] = {
        "footprint.json": publish.json_bytes(document),
        samples: lambda: packed_samples(records()),
        "intensity.json": publish.json_bytes(publish.intensity_document(ending.costing.intensity)),
    }
    if phases.rows:
        files["phases.json"] = publish.json_bytes(publish.phases_document(phases))
    if beside:
        rows = [row.as_dict() for row in beside]
        files["facts.json"] = publish.json_bytes({"schema": publish.SCHEMA, "facts": rows})
    if ending.environment is not None:
        files["environment.json"] = publish.json_bytes(ending.environment)
    return [
        Points(
            (
                *publish.snapshot_points(snapshot, ending.costing, earlier, offset_s=ending.offset_s),
                *publish.summary_points(whole, t_ms=t_ms, detail=ending.detail),
            )
        ),
        Tags(publish.end_tags(whole, ending.troubles, shared=ending.shared)),
        *(File(name, content) for name, content in files.items()),
        Note(note(whole, phases.rows, findings, beside)),
    ]


def _samples_name(ending: Ending) -> str:
    """The name this segment has already, else one that no other has."""
    names = {s.id: s.samples for s in ending.previous}
    if names.get(ending.segment_id):
        return names[ending.segment_id]
    numbered = (f"samples.s{number}.jsonl.gz" for number in count(2))
    return next(name for name in chain(["samples.jsonl.gz"], numbered) if name not in names.values())


def _ratio(part_s: float, whole_s: float | None) -> float | None:
    return part_s / whole_s if whole_s else None

"""Adds up what the machines of a run have stored, from the documents that each has written.

The sum is a function of these documents: the same whoever makes it, and making it again changes nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mlflow_carbon._version import SCHEMA
from mlflow_carbon.core import nodes
from mlflow_carbon.core.report import note
from mlflow_carbon.core.totals import combine
from mlflow_carbon.session import publish
from mlflow_carbon.session.delivery import Delivery, File, Note, Points, Tags, deliver
from mlflow_carbon.store import Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.publish import Segment

__all__ = ["FOLDER", "NOTHING", "PER_NODE", "Document", "Sum", "deliveries", "key", "merge", "parse"]

FOLDER = "nodes"
PER_NODE = ("energy_kwh", "emissions_gco2e")
"""What has a metric for each machine."""

_NAME = re.compile(r"(\d{1,6}|host-[0-9a-f]{1,16})\.json")
_ROUNDS = 100  # each follows a document that has come meanwhile
_SUM = "nodes"  # ends the id of the segment that holds the sum
_NOTE_FINDINGS = 12
_ABSURD = 1e15  # of any unit: no figure of a training


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What one machine has stored.

    Attributes:
        part: Its figures.
        segments: Their segments.
        error: What went wrong, for the tag.
        shared: Whether other runs used the machine at the same time.
        detail: Whether every number becomes a metric.
    """

    part: nodes.Part
    segments: tuple[Segment, ...]
    error: str = ""
    shared: bool = False
    detail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A sum that has been stored.

    Attributes:
        files: Names and sizes of the documents that it was made from.
        is_complete: Whether all machines are in.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    is_complete: bool = False


NOTHING = Sum()


def key(node: str, name: str) -> str:
    """The metric of one machine."""
    return f"carbon/node_{node}/{name}"


def merge(sink: Sink, run_id: str, *, known: Sum = NOTHING) -> Sum:
    """Store the sum of the documents that are there, again until no other has come meanwhile.

    So of two machines that finish at once, the one that stores its sum last has seen both.

    Args:
        sink: The run.
        run_id: Its id.
        known: The sum that was stored before; it is not stored again.

    Raises:
        StoreError: If the sink could not.
    """
    for _ in range(_ROUNDS):
        files = sink.list_files(FOLDER)
        if files == known.files:
            break
        read = (parse(name, sink.read_file(f"{FOLDER}/{name}")) for name in files)
        documents = [document for document in read if document is not None]
        if documents:
            others = [
                s for s in publish.parse_segments(sink.read_file("footprint.json"), {}) if not _is_sum(s)
            ]
            for item in deliveries(run_id, documents, others):
                deliver(sink, item)
        is_complete = bool(documents) and not nodes.missing(d.part for d in documents)[0]
        known = Sum(files=files, is_complete=is_complete)
    return known


def parse(file: str, content: bytes | None) -> Document | None:
    """The document of a machine; None where it is not whole: then the machine counts as missing.

    Args:
        file: Its name, which is that of the machine.
        content: What is in it.
    """
    name = _NAME.fullmatch(file)
    segments = publish.parse_segments(content, {})
    if content is None or name is None or not segments or not all(_is_whole(s.footprint) for s in segments):
        return None
    document: dict[str, Any] = json.loads(content)  # it has segments, so it is one
    try:
        part = nodes.Part(
            node=name[1],
            number=int(document["number"]),
            footprint=combine([s.footprint for s in segments]),
            spans=tuple(_span(s) for s in segments),
            host=str(document.get("host", "")),
            findings=tuple(str(text) for text in document.get("findings", ())),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return Document(
        part=part,
        segments=tuple(segments),
        error=str(document.get("error", "")),
        shared=document.get("shared") is True,
        detail=document.get("detail") is True,
    )


def _is_whole(footprint: RunFootprint) -> bool:
    """Whether each field holds what it should: one with a word for a number would spoil the sum of all."""
    values = {f.name: getattr(footprint, f.name) for f in fields(footprint)}
    labels = {f.name for f in fields(footprint) if f.default == ""}
    return all(
        isinstance(value, str)
        if name in labels
        else value is None or (isinstance(value, int | float) and abs(value) < _ABSURD)
        for name, value in values.items()
    )


def deliveries(run_id: str, documents: Sequence[Document], others: Sequence[Segment]) -> list[Delivery]:
    """Figures of the run on several machines, and of each beside them.

    Args:
        run_id: The run.
        documents: What each machine has stored, at least one.
        others: Segments of the run that were measured where only one machine was.
    """
    parts = nodes.ordered(d.part for d in documents)
    by_name = {d.part.node: d for d in documents}
    segments = _with_others(parts, others)
    whole = combine([s.footprint for s in segments])
    findings = nodes.findings(parts)
    # A sum of more machines is later than one of less, so that it is what MLflow shows.
    t_ms = max(s.end_ms for s in (*others, *(s for d in documents for s in d.segments))) + len(parts)
    detail = any(d.detail for d in documents)
    facts = {"findings": list(findings), "nodes": _count(parts)}
    document = publish.footprint_document(run_id, segments, facts)
    shown = [*findings[:_NOTE_FINDINGS]]
    if len(findings) > len(shown):
        shown.append(f"{len(findings) - len(shown)} more findings are in carbon/nodes.json")
    return [
        Points(
            (
                *publish.summary_points(whole, t_ms=t_ms, detail=detail),
                *(point for p in parts for point in _points(p, by_name[p.node].segments)),
            )
        ),
        Tags(_tags(whole, parts, [by_name[p.node] for p in parts])),
        File("nodes.json", publish.json_bytes(_nodes_document(run_id, parts, by_name))),
        File("footprint.json", publish.json_bytes(document)),
        Note(note(whole, (), shown, nodes=[(p.node, p.footprint) for p in parts])),
    ]


def _with_others(parts: Sequence[nodes.Part], others: Sequence[Segment]) -> list[Segment]:
    """The sum as one segment among those of a run that was also measured on a single machine."""
    starts_ms = [span.start_ms for part in parts for span in part.spans if span.start_ms is not None]
    together = publish.Segment(id=f"{min(starts_ms, default=0)}-{_SUM}", footprint=nodes.together(parts))
    before = [s for s in others if s.is_before(together.id)]
    return [*before, together, *(s for s in others if s not in before)]


def _is_sum(segment: Segment) -> bool:
    return segment.id.endswith(f"-{_SUM}")


def _span(segment: Segment) -> nodes.Span:
    start_ms = segment.id.partition("-")[0]
    return nodes.Span(
        start_ms=int(start_ms) if start_ms.isdecimal() else None,
        duration_s=segment.footprint.duration_s or 0.0,
    )


def _points(part: nodes.Part, segments: Iterable[Segment]) -> Iterator[Point]:
    t_ms = max(s.end_ms for s in segments)
    for name in PER_NODE if nodes.has_keys(part.node, part.number) else ():
        value = getattr(part.footprint, name)
        if value is not None:
            yield Point(key=key(part.node, name), value=value, step=0, t_ms=t_ms)


def _tags(whole: RunFootprint, parts: Sequence[nodes.Part], documents: Sequence[Document]) -> dict[str, str]:
    tags = {
        "carbon.kind": "run",
        "carbon.schema": SCHEMA,
        "carbon.grid.zone": whole.zone,
        "carbon.grid.zone_source": whole.zone_source,
        "carbon.grid.provider": whole.provider,
        "carbon.pue.source": whole.pue_source,
        "carbon.nodes": f"{len(parts)} of {nodes.expected(parts)}",
    }
    errors = [f"node {d.part.node}: {d.error}" for d in documents if d.error]
    shared = any(d.shared for d in documents)
    return {name: value for name, value in tags.items() if value} | publish.end_tags(
        whole, errors, shared=shared
    )


def _count(parts: Sequence[nodes.Part]) -> dict[str, Any]:
    number, names = nodes.missing(parts)
    return {"here": len(parts), "number": nodes.expected(parts), "missing": number, "missing_names": names}


def _nodes_document(
    run_id: str, parts: Sequence[nodes.Part], documents: Mapping[str, Document]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        **_count(parts),
        "nodes": [
            {
                "node": part.node,
                "named_by": "launcher" if part.node.isdecimal() else "host",
                "host": part.host,
                "findings": list(part.findings),
                "segments": [s.id for s in documents[part.node].segments],
                **part.footprint.as_dict(),
            }
            for part in parts
        ],
    }

"""Whether other runs use this machine at the same time, seen from the journals that are being written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mlflow_carbon import journal as journals

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflow_carbon.session.live import RunSpec

__all__ = ["is_shared"]


def is_shared(spec: RunSpec, path: Path) -> bool:
    """Whether a run that neither holds this one nor lies in it is measured on this host at the same time.

    A run that has ended is still there while it is being stored: it counts for the time that it lasted.

    Args:
        spec: This run.
        path: Its journal; the others lie beside it.
    """
    here = journals.live(path.parent, host=journals.host_of(path))
    others = [other for other in here if other != path]
    heads = {other: head for other in others if (head := journals.header(other)) and "run_id" in head}
    parents = {str(head["run_id"]): head.get("parent_run_id") for head in heads.values()}
    parents[spec.run_id] = spec.parent_run_id
    around = _line(spec.run_id, parents)
    strangers = [
        other
        for other, head in heads.items()
        if head["run_id"] not in around
        and spec.run_id not in _line(str(head["run_id"]), parents)
        and not _is_block_of(head, around)
    ]
    return any(_overlap(_span(path), _span(other)) for other in strangers)


def _is_block_of(head: Mapping[str, Any], runs: set[str]) -> bool:
    """Whether it is no run, but a block about one of these, such as its launcher's."""
    return head.get("stored") is False and head.get("parent_run_id") in runs


def _span(path: Path) -> tuple[float, float]:
    """Monotonic nanoseconds of start and end, which all processes of a host share; no end yet: infinite."""
    head, end = journals.header(path) or {}, journals.end(path) or {}
    return head.get("start_mono_ns", -math.inf), end.get("end_mono_ns", math.inf)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _line(run_id: str | None, parents: Mapping[str, str | None]) -> set[str]:
    """A run and those around it, as far as they are measured here."""
    line: set[str] = set()
    while run_id is not None and run_id not in line:
        line.add(run_id)
        run_id = parents.get(run_id)
    return line

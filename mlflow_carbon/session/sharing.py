"""Whether other runs use this machine at the same time, seen from the journals that are being written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon import journal as journals

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflow_carbon.session.live import RunSpec

__all__ = ["is_shared"]


def is_shared(spec: RunSpec, path: Path) -> bool:
    """Whether a run that neither holds this one nor lies in it is being measured on this host.

    Args:
        spec: This run.
        path: Its journal; the others lie beside it.
    """
    heads = [journals.header(other) for other in journals.live(path.parent) if other != path]
    parents = {str(head["run_id"]): head.get("parent_run_id") for head in heads if head and "run_id" in head}
    parents[spec.run_id] = spec.parent_run_id
    around = _line(spec.run_id, parents)
    return any(other not in around and spec.run_id not in _line(other, parents) for other in parents)


def _line(run_id: str | None, parents: Mapping[str, str | None]) -> set[str]:
    """A run and those around it, as far as they are measured here."""
    line: set[str] = set()
    while run_id is not None and run_id not in line:
        line.add(run_id)
        run_id = parents.get(run_id)
    return line

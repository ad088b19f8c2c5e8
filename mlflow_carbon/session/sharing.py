"""Whether other runs use this machine at the same time, seen from the journals that are being written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon import journal as journals

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_carbon.session.live import RunSpec

__all__ = ["is_shared"]


def is_shared(spec: RunSpec, path: Path) -> bool:
    """Whether a run that is neither parent nor child of this one is being measured on this host.

    Args:
        spec: This run.
        path: Its journal; the others lie beside it.
    """
    for other in journals.live(path.parent):
        head = journals.header(other) if other != path else None
        if head is None or head.get("run_id") in (spec.run_id, spec.parent_run_id):
            continue
        if head.get("parent_run_id") != spec.run_id:
            return True
    return False

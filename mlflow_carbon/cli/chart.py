"""A small bar chart for terminals, of block characters: rows of text out of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bars"]

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def bars(values: Sequence[float | None], *, height: int = 5, marks: Sequence[bool] = ()) -> list[str]:
    """Columns of values from zero up, with the top and the middle of the axis on the left.

    Args:
        values: One column each; None leaves it empty.
        height: Rows of the chart.
        marks: Columns to point at below the axis.

    Returns:
        The rows, top first; no row where there is no value.
    """
    top = max((v for v in values if v is not None), default=0.0)
    if top <= 0:
        return []
    labels = {height: f"{top:.0f}", (height + 1) // 2: f"{top * ((height + 1) // 2) / height:.0f}"}
    width = max(len(label) for label in labels.values())
    rows = []
    for row in range(height, 0, -1):
        line = "".join(_block((v or 0.0) / top * height - (row - 1)) for v in values)
        rows.append(f"{labels.get(row, ''):>{width}} |{line}".rstrip())
    rows.append(f"{'0':>{width}} +{'-' * len(values)}")
    if any(marks):
        rows.append(f"{'':>{width}}  {''.join('^' if m else ' ' for m in marks)}".rstrip())
    return rows


def _block(filled: float) -> str:
    """A cell that is filled from 0 (or less) to 1 (or more)."""
    return _EIGHTHS[round(max(0.0, min(1.0, filled)) * 8)]

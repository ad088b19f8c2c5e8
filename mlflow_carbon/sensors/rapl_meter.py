"""One open RAPL counter, whichever way the kernel shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.core.series import Component

__all__ = ["RaplMeter"]


class RaplMeter(NamedTuple):
    """An open counter.

    Attributes:
        label: What it counts, for example `package-0`.
        component: What that feeds.
        descriptor: The open file; whoever gets the meter closes it.
        read_uj: Reads it, in microjoules; raises `OSError` or `ValueError`.
        range_uj: Where it wraps; None if it never does or is unknown.
        source: Where the number comes from, for people.
        is_doubted: Whether it may repeat a counter that is read already.
    """

    label: str
    component: Component
    descriptor: int
    read_uj: Callable[[], int]
    range_uj: int | None
    source: str
    is_doubted: bool = False

"""From what the stations of a grid make to its intensity: the mean of the factors, and what must be left out.

intensity = sum over kinds of power x factor / sum over kinds of power, with the life cycle medians of
`factors`. It is what the grid's own stations make: imports do not count. Storage is neither source nor sink:
charging is consumption, and what comes out was counted when it was made; callers leave it out. Newest slots
often lack kinds of stations; such a slot is left out, never taken as zero. So is one of three times the
usual generation.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import factors
from mlflow_carbon.grid.contract import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Row", "answer", "power"]

Row = dict[str, float | None]
"""Power by kind of station in a slot; None where a kind is not reported."""

_COMPLETE_RATIO = 0.95  # a slot counts where the kinds it reports make this share of a usual slot
_UNCOVERED_RATIO = 0.2  # above this share without a factor there is no figure
_MODEL_RATIO = 0.15  # imports, losses and the age of the factors: an engineering choice
_SPIKE_RATIO = 3.0  # no grid makes three times as much as usual: a wrong report
_MAX_MW = 1e6


def power(value: Any) -> float | None:
    """Megawatts; what a station takes for itself at night is no negative generation."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MAX_MW:
        return None
    return max(0.0, float(value))


def answer(
    rows: Mapping[int, Row], factor: Mapping[str, float], *, name: str, place: str, slots_s: tuple[int, int]
) -> Answer:
    """Intensity of each slot in which most of the generation is reported and has a factor, sorted.

    Args:
        rows: What the stations made, by the start of its span.
        factor: gCO2e/kWh by kind of station; a kind that is not there has none.
        name: Of the provider.
        place: What was asked about.
        slots_s: Length of the span of a row and of the slots that it is cut into, in seconds.

    Raises:
        GridError: If there is no such slot.
    """
    span_s, slot_s = slots_s
    usual = _usual(rows.values())
    most = _SPIKE_RATIO * median([total for row in rows.values() if (total := _total(row)) > 0] or [0.0])
    slots: dict[int, IntensitySlot] = {}
    uncovered = 0.0
    for start_s, row in sorted(rows.items()):
        found = _mix(row, usual, factor)
        if found is None or _total(row) > most:
            continue
        uncovered = max(uncovered, found[1])
        slots |= {t: _slot(t, slot_s, *found) for t in range(start_s, start_s + span_s, slot_s)}
    if not slots:
        raise GridError(
            f"{name}: expected the generation of {place} by kind, got no slot in which "
            f"at least {1 - _UNCOVERED_RATIO:.0%} of it is reported and has a factor"
        )
    note = f"up to {uncovered:.0%} of the generation has no factor and is taken as the rest"
    return Answer(slots=tuple(slots[t] for t in sorted(slots)), note=note)


def _total(row: Row) -> float:
    return sum(value for value in row.values() if value)


def _usual(rows: Iterable[Row]) -> dict[str, float]:
    """Mean power of each kind over the slots that report it."""
    total: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                total.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in total.items()}


def _mix(row: Row, usual: Mapping[str, float], factor: Mapping[str, float]) -> tuple[float, float] | None:
    """Intensity of a slot and the share without a factor; None where too much is missing."""
    reported = sum(mean for name, mean in usual.items() if row.get(name) is not None)
    total = _total(row)
    if total <= 0 or reported < _COMPLETE_RATIO * sum(usual.values()):
        return None
    covered = {name: value for name, value in row.items() if value and name in factor}
    known = sum(covered.values())
    uncovered = 1 - known / total
    if uncovered > _UNCOVERED_RATIO:
        return None
    return sum(value * factor[name] for name, value in covered.items()) / known, max(0.0, uncovered)


def _slot(start_s: int, slot_s: int, value: float, uncovered: float) -> IntensitySlot:
    """A slot; the range holds the model's error, and the uncovered share from 0 to the dirtiest."""
    return IntensitySlot(
        start_s=start_s,
        end_s=start_s + slot_s,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value * (1 - uncovered) * (1 - _MODEL_RATIO),
        high_gco2e_per_kwh=(value + (factors.DIRTIEST - value) * uncovered) * (1 + _MODEL_RATIO),
        kind="actual",
    )

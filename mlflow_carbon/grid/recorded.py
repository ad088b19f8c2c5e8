"""A trace in a CSV file: `slot_start_utc` and `gco2_per_kwh`, one row a slot, times UTC.

Only slots that have begun are given: what a file says of the future is not known at the time, and a plan made
with it would look better than it can be. What lies ahead is forecast from the file's own past by the chain.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from mlflow_carbon.core.times import minute
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.answers import MAX_GCO2E_PER_KWH, epoch, ranged

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_carbon.core.carbon import IntensitySlot
    from mlflow_carbon.grid.contract import Window

__all__ = ["Recorded", "read"]

_TIME, _VALUE = "slot_start_utc", "gco2_per_kwh"
_DAY_S = 86_400
_RATIO = 0.1  # as of any other actual: an engineering choice
_MAX_BAD_RATIO = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A trace and where it came from.

    Attributes:
        name: `recorded:<file name>`.
        slot_s: Length of a slot.
        rows: Values by the start of their slot, ascending.
    """

    name: str
    slot_s: int
    rows: dict[int, float]

    scope: ClassVar[str] = "not stated"
    signal: ClassVar[str] = "average"

    @property
    def dataset(self) -> str:
        """The file."""
        return self.name

    def slots(self, zone_id: str, window: Window, now_s: float) -> tuple[IntensitySlot, ...]:  # noqa: ARG002 - the file is of one zone
        """Slots that overlap the window and have begun.

        Raises:
            GridError: If the file covers none of it.
        """
        first, last = min(self.rows), max(self.rows) + self.slot_s
        found = tuple(
            ranged(t, self.slot_s, value, value * _RATIO, "actual")
            for t, value in self.rows.items()
            if window.start_s < t + self.slot_s and t < window.end_s and t <= now_s
        )
        if not found:
            raise GridError(
                f"{self.name}: expected slots from {minute(window.start_s)}, got a file that covers "
                f"{minute(first)} to {minute(last)}; name a file of this time"
            )
        return found


def read(path: Path) -> Recorded:
    """Read a trace; a file that has not changed since is not read again.

    A row that cannot be used is left out, up to one in a hundred; of a time that comes twice the last row
    counts.

    Raises:
        GridError: If the file cannot be read, has other columns, times off a raster or too many bad rows; the
            message names the line.
    """
    name = f"recorded:{path.name}"
    try:
        known = path.stat()
    except OSError as error:
        raise GridError(f"{name}: cannot be read: {error.strerror}") from None
    return _read(path, known.st_mtime_ns, known.st_size, known.st_ino)


@lru_cache(maxsize=4)
def _read(path: Path, _mtime_ns: int, _size: int, _inode: int) -> Recorded:
    name = f"recorded:{path.name}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {_TIME, _VALUE} <= set(reader.fieldnames or ()):
                raise GridError(
                    f"{name}: expected a first line with {_TIME} and {_VALUE}, "
                    f"got {reader.fieldnames or 'nothing'}"
                )
            lines = [(reader.line_num, epoch(row[_TIME]), _figure(row[_VALUE])) for row in reader]
    except OSError as error:
        raise GridError(f"{name}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise GridError(f"{name}: expected CSV text in UTF-8, got something else ({error})") from None
    return _checked(name, lines)


def _checked(name: str, lines: list[tuple[int, int | None, float | None]]) -> Recorded:
    bad = [number for number, t, value in lines if t is None or value is None]
    if len(bad) > _MAX_BAD_RATIO * len(lines):
        raise GridError(
            f"{name}: expected times such as 2021-01-01T00:00Z and 0 to {MAX_GCO2E_PER_KWH} gCO2/kWh, got "
            f"{len(bad)} other lines of {len(lines)}, the first is line {bad[0]}"
        )
    rows = {
        t: value
        for _, t, value in sorted(lines, key=lambda line: line[1] or 0)
        if t is not None and value is not None
    }
    if len(rows) < 2:  # noqa: PLR2004 - one slot has no length
        raise GridError(f"{name}: expected at least two slots, got {len(rows)}")
    slot_s = Counter(b - a for a, b in pairwise(rows)).most_common(1)[0][0]
    strange = next((t for t in rows if t % slot_s), None) if _DAY_S % slot_s == 0 else next(iter(rows))
    if strange is not None:
        raise GridError(
            f"{name}: expected slots of one length that divides a day, "
            f"got one of {slot_s} s at {minute(strange)}"
        )
    return Recorded(name=name, slot_s=slot_s, rows=rows)


def _figure(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= MAX_GCO2E_PER_KWH else None

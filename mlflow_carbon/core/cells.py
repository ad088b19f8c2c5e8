"""Energy by channel and UTC bucket, as it grows: taking it costs the same after a minute and after a month.

A `CellBook` is written by a ledger; the `Cells` it gives are what it held at one moment. They share one list
of closed cells, to which the book only ever appends, so that a moment holds a length and the few open cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["BUCKET_S", "Cell", "CellBook", "Cells"]

BUCKET_S = 300
"""Length in seconds of the UTC buckets that energy is kept in for costing by the slot."""

_OPEN = 3  # cells a channel: this bucket, the one before for who is late, and one to spare


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Energy of one channel in one UTC bucket of `BUCKET_S` seconds."""

    channel: str
    bucket_s: int
    energy_uj: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What a book held at one moment. Iterating adds up and sorts; the totals are known without it.

    Attributes:
        totals_uj: Energy by channel.
        open: Cells that may still have grown after this moment.
        count: How many cells of the log were closed at this moment.
        log: Closed cells in the order in which they were closed, also those that came later. A cell that
            was opened again is there again, with what was added.
    """

    totals_uj: Mapping[str, int]
    open: tuple[Cell, ...]
    count: int
    log: Sequence[Cell] = field(repr=False, compare=False)

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> Cells:
        """The same of cells at hand."""
        book = CellBook()
        for cell in cells:
            book.add(cell.channel, cell.bucket_s, cell.energy_uj)
        return book.cells()

    def closed(self, start: int = 0) -> Iterator[Cell]:
        """The cells that were closed, from a number on."""
        return (self.log[number] for number in range(start, self.count))

    def __len__(self) -> int:
        return len(self._sums())

    def __contains__(self, cell: object) -> bool:
        return cell in tuple(self)

    def __iter__(self) -> Iterator[Cell]:
        sums = sorted(self._sums().items())
        return (Cell(channel=channel, bucket_s=at_s, energy_uj=uj) for (channel, at_s), uj in sums)

    def _sums(self) -> dict[tuple[str, int], int]:
        sums: dict[tuple[str, int], int] = {}
        for cell in (*self.closed(), *self.open):
            key = (cell.channel, cell.bucket_s)
            sums[key] = sums.get(key, 0) + cell.energy_uj
        return sums


class CellBook:
    """Adds up energy by channel and UTC bucket."""

    def __init__(self) -> None:
        self._log: list[Cell] = []
        self._open: dict[tuple[str, int], int] = {}
        self._totals_uj: dict[str, int] = {}

    def add(self, channel: str, bucket_s: int, energy_uj: int) -> None:
        """Book energy, of any bucket: some meters are late, and clocks are set."""
        key = (channel, bucket_s)
        if key not in self._open and len(self._open) >= _OPEN * max(1, len(self._totals_uj)):
            self._log += self._opened()
            self._open.clear()
        self._open[key] = self._open.get(key, 0) + energy_uj
        self._totals_uj[channel] = self._totals_uj.get(channel, 0) + energy_uj

    def cells(self) -> Cells:
        """What is booked so far."""
        return Cells(
            totals_uj=dict(self._totals_uj), open=self._opened(), count=len(self._log), log=self._log
        )

    def _opened(self) -> tuple[Cell, ...]:
        return tuple(
            Cell(channel=channel, bucket_s=at_s, energy_uj=uj) for (channel, at_s), uj in self._open.items()
        )

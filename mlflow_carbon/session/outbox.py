"""What waits to be stored, in order.

While the store is out of reach all stays and is tried again, later and later. What the store answers that it
will not take is put aside, so that the rest gets through: it is in the journal, which `recover` tries again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.errors import RefusedError, StoreError
from mlflow_carbon.session.delivery import File, Points, deliver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_carbon.journal import Journal
    from mlflow_carbon.session.delivery import Delivery, Sink
    from mlflow_carbon.store import Point

__all__ = ["Outbox", "SentUpTo"]

_logger = logging.getLogger(__name__)

_PAUSE_S = (5.0, 30.0)  # at least and at most
_RETRY_S = (5.0, 15.0, 30.0, 60.0)
_MOST_STEP_POINTS = 20_000  # 4 MB; a training may take any number of steps


@dataclass(frozen=True, slots=True)
class SentUpTo:
    """Marks that everything before it holds the readings up to a monotonic time."""

    t_ns: int


class Outbox:
    """Deliveries in order, to a sink that may be down.

    Artifacts often have a store of their own, with other credentials than the server's: one that fails lets
    the figures behind it pass, and is put aside until the end. Where one has failed the next ones are not
    tried, since each try may take minutes.

    A store may be out of reach for days. Steps beyond what memory should hold are thinned then, every second
    one, as often as it takes; the time axis and all totals stay whole.

    Args:
        sink: Where they go; None: nowhere, which counts as delivered.
        journal: Where it is noted what has been stored, so that `recover` does not store it again.
    """

    def __init__(self, sink: Sink | None, journal: Journal) -> None:
        self._sink = sink
        self._journal = journal
        self._items: list[Delivery | SentUpTo] = []
        self._refused: list[File] = []
        self._failures = 0
        self._step_points = 0
        self.refusal = ""
        """The first thing that the store will not take, in words."""

    @property
    def is_stuck(self) -> bool:
        """Whether the last attempt failed: what is soon out of date need not be added."""
        return self._failures > 0

    def add(self, *items: Delivery | SentUpTo) -> None:
        """Put something at the end."""
        self._items += items
        self._step_points += sum(map(_count_steps, items))
        # A store that answers takes any number.
        while self.is_stuck and self._step_points > _MOST_STEP_POINTS:
            self._thin()

    def extend(self, items: Iterable[Delivery]) -> None:
        """Put several things at the end."""
        self.add(*items)

    def send(self, *, last: bool = False) -> bool:
        """Deliver until the sink fails to take figures; whether everything is out.

        Args:
            last: Whether to try artifacts that failed once more.
        """
        if last:
            self._items += self._refused
            self._refused = []
        while self._items:
            item = self._items[0]
            try:
                self._deliver(item)
            except StoreError as error:
                self._complain(error, item)
                if isinstance(item, File):
                    self._refused.append(item)
                elif isinstance(error, RefusedError):
                    self.refusal = self.refusal or str(error)
                else:
                    self._failures += 1
                    return False
            self._items.pop(0)
            self._step_points -= _count_steps(item)
        self._failures = 0
        return not self._refused and not self.refusal

    def pause_s(self, elapsed_s: float) -> float:
        """Seconds to wait before sending again, `elapsed_s` after the start of the run.

        As long as the run has lasted, within bounds: each call costs MLflow's SQL store 5 to 30 ms of CPU,
        however little it holds.
        """
        if self._failures:
            return _RETRY_S[min(self._failures, len(_RETRY_S)) - 1]
        shortest_s, longest_s = _PAUSE_S
        return min(longest_s, max(shortest_s, elapsed_s))

    def _thin(self) -> None:
        _logger.info("the store has been out of reach for long: every second step that waits is left out")
        seen: dict[str, int] = {}
        for number, item in enumerate(self._items):
            if isinstance(item, Points):
                self._items[number] = Points(tuple(p for p in item.points if _is_kept(p, seen)))
        self._step_points = sum(map(_count_steps, self._items))

    def _complain(self, error: StoreError, item: Delivery | SentUpTo) -> None:
        is_first = not self._failures and not self._refused
        if isinstance(error, RefusedError) and not isinstance(item, File):
            is_first = not self.refusal
        _logger.log(logging.WARNING if is_first else logging.DEBUG, "%s", error)

    def _deliver(self, item: Delivery | SentUpTo) -> None:
        if isinstance(item, SentUpTo):
            if not self.refusal:  # else `recover` would take what was refused for stored
                self._journal.append("sent", t=item.t_ns)
        elif self._sink is not None:
            if isinstance(item, File) and self._refused:
                raise StoreError(
                    f"carbon/{item.name} waits, since carbon/{self._refused[0].name} was refused"
                )
            deliver(self._sink, item)


def _is_step(point: Point) -> bool:
    return point.key.startswith("carbon/step/")


def _count_steps(item: Delivery | SentUpTo) -> int:
    return sum(map(_is_step, item.points)) if isinstance(item, Points) else 0


def _is_kept(point: Point, seen: dict[str, int]) -> bool:
    """Whether a point is none of a step, or the second, fourth ... of its key."""
    if not _is_step(point):
        return True
    seen[point.key] = seen.get(point.key, 0) + 1
    return seen[point.key] % 2 == 0

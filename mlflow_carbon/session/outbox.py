"""What waits to be stored, in order. What the store refuses stays and is tried again, later and later."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.errors import StoreError
from mlflow_carbon.session.delivery import File, deliver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_carbon.journal import Journal
    from mlflow_carbon.session.delivery import Delivery, Sink

__all__ = ["Outbox", "SentUpTo"]

_logger = logging.getLogger(__name__)

_PAUSE_S = (5.0, 30.0)  # at least and at most
_RETRY_S = (5.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class SentUpTo:
    """Marks that everything before it holds the readings up to a monotonic time."""

    t_ns: int


class Outbox:
    """Deliveries in order, to a sink that may be down.

    Artifacts often have a store of their own, with other credentials than the server's: a refused one lets
    the figures behind it pass, and is put aside until the end. Where one is refused the next ones are not
    tried, since each try may take minutes.

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

    @property
    def is_stuck(self) -> bool:
        """Whether the last attempt was refused: what is soon out of date need not be added."""
        return self._failures > 0

    def add(self, *items: Delivery | SentUpTo) -> None:
        """Put something at the end."""
        self._items += items

    def extend(self, items: Iterable[Delivery]) -> None:
        """Put several things at the end."""
        self._items += items

    def send(self, *, last: bool = False) -> bool:
        """Deliver until the sink refuses figures; whether everything is out.

        Args:
            last: Whether to try refused artifacts once more.
        """
        if last:
            self._items += self._refused
            self._refused = []
        while self._items:
            item = self._items[0]
            try:
                self._deliver(item)
            except StoreError as error:
                self._complain(error)
                if not isinstance(item, File):
                    self._failures += 1
                    return False
                self._refused.append(item)
            self._items.pop(0)
        self._failures = 0
        return not self._refused

    def pause_s(self, elapsed_s: float) -> float:
        """Seconds to wait before sending again, `elapsed_s` after the start of the run.

        As long as the run has lasted, within bounds: each call costs MLflow's SQL store 5 to 30 ms of CPU,
        however little it holds.
        """
        if self._failures:
            return _RETRY_S[min(self._failures, len(_RETRY_S)) - 1]
        shortest_s, longest_s = _PAUSE_S
        return min(longest_s, max(shortest_s, elapsed_s))

    def _complain(self, error: StoreError) -> None:
        is_first = not self._failures and not self._refused
        _logger.log(logging.WARNING if is_first else logging.DEBUG, "%s", error)

    def _deliver(self, item: Delivery | SentUpTo) -> None:
        if isinstance(item, SentUpTo):
            self._journal.append("sent", t=item.t_ns)
        elif self._sink is not None:
            if isinstance(item, File) and self._refused:
                raise StoreError(
                    f"carbon/{item.name} waits, since carbon/{self._refused[0].name} was refused"
                )
            deliver(self._sink, item)

"""Own time per phase and thread, marked by the training and read by the sampler.

A mark costs about a microsecond and takes no lock: each thread writes its own totals, and the
sampler may read them in the middle of a mark, so readings are only ever allowed to grow.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PhaseClock"]


class _ThreadTimes:
    __slots__ = ("entries", "since_ns", "stack", "totals_ns")

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.since_ns = 0
        self.totals_ns: dict[str, int] = {}
        self.entries: dict[str, int] = {}

    def book(self, now_ns: int) -> None:
        """Give the innermost phase the time until now.

        In this order, so that a reading in the middle sees too little and catches up with the next one;
        a reading of too much, once taken, could not be given back.
        """
        gone_ns, self.since_ns = now_ns - self.since_ns, now_ns
        if self.stack:
            self.totals_ns[self.stack[-1]] += gone_ns


class PhaseClock:
    """Phases of one session.

    Args:
        now_ns: Monotonic clock in nanoseconds.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._threads: dict[int, _ThreadTimes] = {}
        self._seen_ns: dict[str, int] = {}

    def enter(self, name: str) -> None:
        """Start a phase; the one around it is paused."""
        name = str(name)  # whatever a user calls it must not break the sampler or the journal
        now_ns = self._now_ns()
        ident = threading.get_ident()
        times = self._threads.get(ident)
        if times is None:
            times = self._threads[ident] = _ThreadTimes()
        times.book(now_ns)
        times.totals_ns.setdefault(name, 0)
        times.entries[name] = times.entries.get(name, 0) + 1
        times.stack.append(name)

    def leave(self) -> None:
        """End the innermost phase of this thread; the one around it goes on."""
        now_ns = self._now_ns()
        times = self._threads.get(threading.get_ident())
        if times is None or not times.stack:
            return
        times.book(now_ns)
        times.stack.pop()

    def since_last(self, now_ns: int) -> dict[str, int]:
        """Nanoseconds per phase since the last call, open phases included."""
        totals: dict[str, int] = {}
        for times in list(self._threads.values()):
            for name, total_ns in list(times.totals_ns.items()):
                totals[name] = totals.get(name, 0) + total_ns
            stack = times.stack[-1:]
            if stack:
                totals[stack[0]] = totals.get(stack[0], 0) + max(0, now_ns - times.since_ns)
        fresh = {}
        for name, total_ns in totals.items():
            grown_ns = total_ns - self._seen_ns.get(name, 0)
            if grown_ns > 0:
                fresh[name] = grown_ns
                self._seen_ns[name] = total_ns
        return fresh

    def entries(self) -> dict[str, int]:
        """How often each phase has been entered."""
        counts: dict[str, int] = {}
        for times in list(self._threads.values()):
            for name, number in list(times.entries.items()):
                counts[name] = counts.get(name, 0) + number
        return counts

"""Own time per phase and thread, marked by the training and read by the sampler.

A mark costs about a microsecond and takes no lock: each thread writes its own totals, and the
sampler may read them in the middle of a mark, so readings are only ever allowed to grow.
"""

from __future__ import annotations

import sys
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_carbon.core.phases import Tail

__all__ = ["PhaseClock", "wait_for_device"]

_MARKS = 128  # of the last 200 ms: phases of 3 ms and more
_TAIL_US = 200_000


class _ThreadTimes:
    __slots__ = ("entries", "marks", "since_ns", "stack", "totals_ns")

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.since_ns = 0
        self.totals_ns: dict[str, int] = {}
        self.entries: dict[str, int] = {}
        self.marks: deque[tuple[int, str | None]] = deque(maxlen=_MARKS)
        """When what became the innermost phase, latest last."""

    def book(self, now_ns: int) -> None:
        """Give the innermost phase the time until now.

        In this order, so that a reading in the middle sees too little and catches up with the next one;
        a reading of too much, once taken, could not be given back.
        """
        gone_ns, self.since_ns = now_ns - self.since_ns, now_ns
        if self.stack:
            self.totals_ns[self.stack[-1]] += gone_ns

    def upto(self, now_ns: int) -> dict[str, int]:
        """Totals at a moment, which may be a little in the past."""
        totals = dict(list(self.totals_ns.items()))
        stack = self.stack[-1:]
        if stack:
            totals[stack[0]] = totals.get(stack[0], 0) + max(0, now_ns - self.since_ns)
        for name, begin_ns, end_ns in self.stays():
            if end_ns is None:
                continue
            if end_ns <= now_ns:
                break
            if name in totals:
                totals[name] -= end_ns - max(begin_ns, now_ns)
        return totals

    def stays(self) -> Iterator[tuple[str | None, int, int | None]]:
        """Phase, begin and end of the last stays, latest first; the end of the latest is None."""
        end_ns = None
        for begin_ns, name in reversed(tuple(self.marks)):
            yield name, begin_ns, end_ns
            end_ns = begin_ns


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
        if type(name) is not str:
            name = str(name)  # whatever a user calls it must not break the sampler or the journal
        now_ns = self._now_ns()
        times = self._threads.get(get_ident())
        if times is None:
            times = self._threads[get_ident()] = _ThreadTimes()
        times.book(now_ns)
        if name in times.entries:
            times.entries[name] += 1
        else:
            times.totals_ns.setdefault(name, 0)
            times.entries[name] = 1
        times.stack.append(name)
        times.marks.append((now_ns, name))

    def leave(self) -> None:
        """End the innermost phase of this thread; the one around it goes on."""
        now_ns = self._now_ns()
        times = self._threads.get(get_ident())
        if times is None or not times.stack:
            return
        stack = times.stack
        gone_ns, times.since_ns = now_ns - times.since_ns, now_ns  # as `book` does, with one call less
        times.totals_ns[stack.pop()] += gone_ns
        times.marks.append((now_ns, stack[-1] if stack else None))

    def since_last(self, now_ns: int) -> dict[str, int]:
        """Nanoseconds per phase since the last call, up to `now_ns`, open phases included."""
        totals: dict[str, int] = {}
        for times in list(self._threads.values()):
            for name, total_ns in times.upto(now_ns).items():
                totals[name] = totals.get(name, 0) + total_ns
        fresh = {}
        for name, total_ns in totals.items():
            grown_ns = total_ns - self._seen_ns.get(name, 0)
            if grown_ns > 0:
                fresh[name] = grown_ns
                self._seen_ns[name] = total_ns
        return fresh

    def tail(self, now_ns: int) -> Tail | None:
        """Which phases were on in the 200 ms before `now_ns`: name, begin and end in microseconds before it.

        None where marks come so fast that they are not all known.
        """
        found: list[tuple[str, int, int]] = []
        for times in list(self._threads.values()):
            older_us = 0
            for name, begin_ns, end_ns in times.stays():
                older_us = (now_ns - begin_ns) // 1000
                newer_us = (now_ns - end_ns) // 1000 if end_ns is not None else 0
                if name is not None and newer_us < _TAIL_US and older_us > max(newer_us, 0):
                    found.append((name, min(older_us, _TAIL_US), max(newer_us, 0)))
                if older_us >= _TAIL_US:
                    break
            if older_us < _TAIL_US and len(times.marks) == _MARKS:
                return None
        return found

    def entries(self) -> dict[str, int]:
        """How often each phase has been entered."""
        counts: dict[str, int] = {}
        for times in list(self._threads.values()):
            for name, number in list(times.entries.items()):
                counts[name] = counts.get(name, 0) + number
        return counts


def wait_for_device(modules: Mapping[str, object] = sys.modules) -> None:
    """Wait until CUDA has done all it was asked for, where this process uses it through torch.

    Args:
        modules: The modules of the process.

    Raises:
        RuntimeError: What torch raises for work that failed; it would raise it at the next call anyway.
    """
    cuda = getattr(modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        cuda.synchronize()

"""One background thread for everything that may be slow: the store, the grid, provenance.

Jobs run one after another in the order they are due. A job that raises is logged and forgotten.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Worker"]

_logger = logging.getLogger(__name__)


class Worker:
    """A daemon thread with a queue of jobs by due time; started by its first job.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str = "mlflow-carbon-worker") -> None:
        self._name = name
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._busy = False
        self._retiring = False
        self._thread: threading.Thread | None = None
        self.cpu_ns = 0
        """CPU time this worker's thread has used."""

    def submit(self, job: Callable[[], object], *, delay_s: float = 0.0) -> None:
        """Run a job in the background, not before `delay_s` from now."""
        with self._changed:
            self._retiring = False
            heapq.heappush(self._queue, (time.monotonic() + delay_s, next(self._order), job))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def retire(self) -> None:
        """Forget what is not due yet and let the thread end; the next job starts it again."""
        with self._changed:
            self._queue.clear()
            self._retiring = self._thread is not None
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until no job is running or due; False after the timeout. Never call it from a job."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout_s)

    def _is_idle(self) -> bool:
        return not self._busy and not (self._queue and self._queue[0][0] <= time.monotonic())

    def _run(self) -> None:
        while True:
            job = self._next()
            if job is None:
                return
            try:
                job()
            except Exception:
                _logger.warning("a background job failed", exc_info=True)
            self.cpu_ns = time.thread_time_ns()
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            while True:
                if self._retiring:
                    self._thread, self._retiring = None, False
                    return None
                wait_s = self._queue[0][0] - time.monotonic() if self._queue else None
                if wait_s is not None and wait_s <= 0:
                    self._busy = True
                    return heapq.heappop(self._queue)[2]
                self._changed.wait(wait_s)

"""The ways in which a process ends, and how to be called at them."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["SIGTERM_S", "at_sigterm", "before_pools_close", "leave_sigterm"]

SIGTERM_S = 2.0
"""How long SIGTERM is held up."""


def before_pools_close(hook: Callable[[], None]) -> None:
    """Call a hook when the main thread ends, before pools of threads refuse work and before `atexit`.

    Artifact stores upload through such pools (S3), and a child of multiprocessing runs no `atexit`. Called
    in reverse order, so the pools' own hook must be there first. Python keeps this for itself: where it
    has moved, `atexit` remains.
    """
    import concurrent.futures.thread  # noqa: F401 - registers its hook

    register = getattr(threading, "_register_atexit", None)
    with suppress(RuntimeError):  # the interpreter is going down already
        if register is not None:
            register(hook)


def at_sigterm(flush: Callable[[], None]) -> None:
    """Call `flush` at SIGTERM, then end by it; only in the main thread and only where nobody else handles it.

    It is called in a thread of its own, since the interrupted one may hold one of our locks. That thread
    waits from the start, since the interrupted one may hold a lock of `threading`, too, and could start none.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    asked: SimpleQueue[None] = SimpleQueue()  # made for this: its put may interrupt a put
    flushed = threading.Event()

    def wait_and_flush() -> None:
        asked.get()
        flush()
        flushed.set()

    def on_sigterm(number: int, _frame: FrameType | None) -> None:
        asked.put(None)
        flushed.wait(SIGTERM_S)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait_and_flush, name="mlflow-carbon-sigterm", daemon=True).start()
    signal.signal(signal.SIGTERM, on_sigterm)


def leave_sigterm() -> None:
    """In a forked child, which has not our threads: the default action again, where the handler is ours."""
    if getattr(signal.getsignal(signal.SIGTERM), "__module__", "") == __name__:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""SIGTERM as an exception, so that whoever waits or trains can leave things in order."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Terminated", "die_of_sigterm", "sigterm_raises"]


class Terminated(BaseException):
    """SIGTERM has come: the machine is wanted back."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """While entered, the first SIGTERM raises `Terminated`; the second one kills as ever.

    Only in the main thread, and only where nobody else handles it.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not is_ours:
        yield
        return

    def on_sigterm(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def die_of_sigterm() -> None:
    """End as SIGTERM ends a process, so that whoever sent it sees that."""
    os.kill(os.getpid(), signal.SIGTERM)

"""CPU time that the whole machine has used since boot: from `/proc/stat`, elsewhere through psutil.

A leaf of its own, since a run's start reads it in the caller's thread, before any sensor is loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Baseline", "BusyTime", "ProcStat", "busy_time", "machine_now", "machine_times"]

_ENOUGH = 512  # bytes; the first line holds ten numbers


class BusyTime(NamedTuple):
    """CPU time of the whole machine since boot, in seconds."""

    busy_s: float
    total_s: float


class Baseline(NamedTuple):
    """The machine's CPU time when measuring began, before any sensor was found.

    Finding sensors may take a second or two beside a busy training; without this a short run has no figures.
    """

    t_mono_ns: int
    times: BusyTime


class _Times(NamedTuple):
    """The first line of `/proc/stat` without guest times, which are in user and nice already (proc(5))."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float


class ProcStat:
    """Reads `/proc/stat` through a descriptor that stays open: one system call, where psutil makes five.

    At each call the interpreter's lock goes to the training, which may keep it for 5 ms.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self) -> BusyTime:
        """The times now."""
        line = os.pread(self._descriptor, _ENOUGH, 0).partition(b"\n")[0]
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        return busy_time(_Times(*(int(n) / ticks_per_s for n in line.split()[1 : 1 + len(_Times._fields)])))

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def machine_times(root: Path) -> Callable[[], BusyTime]:
    """What reads the times of this machine."""
    try:
        stat = ProcStat(os.open(root / "proc/stat", os.O_RDONLY))
    except OSError:
        return _through_psutil
    try:
        stat()
    except (OSError, ValueError, TypeError):
        stat.close()
        return _through_psutil
    return stat


def machine_now(root: Path = Path("/")) -> BusyTime:
    """The times of this machine once, with nothing left open.

    Raises:
        OSError: If the system does not tell.
    """
    times = machine_times(root)
    try:
        return times()
    finally:
        if isinstance(times, ProcStat):
            times.close()


def busy_time(times: Any) -> BusyTime:
    """Busy and total time of `psutil.cpu_times()`, split as CodeCarbon's `SystemCPULoadMeter` does.

    Guest time is already in user and nice time (Linux); waiting for a disk is idle; stolen time is busy.
    """
    total_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return BusyTime(busy_s=total_s - times.idle - getattr(times, "iowait", 0.0), total_s=total_s)


def _through_psutil() -> BusyTime:
    import psutil

    return busy_time(psutil.cpu_times())

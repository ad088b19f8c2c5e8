"""Runs one meter around one block in its own environment, and prints what it cost and what it told, as JSON.

Usage: python peer_driver.py OPTIONS; OPTIONS is JSON with `tool`, `seconds`, `period_s`, `settle_s` and maybe `busy`,
`mlflow` or `marks`. Standard library only, besides the meter.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from peer_tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MARKS = 20_000


class Reading:
    """Clocks and CPU seconds at a moment: of this thread, of this process, of its living and dead children."""

    def __init__(self) -> None:
        self.mono_ns = time.monotonic_ns()
        self.thread_s = time.thread_time()
        self.process_s = time.process_time()
        times = os.times()
        self.children_s = times.children_user + times.children_system + _descendants_s()

    def since(self, then: Reading) -> dict[str, float]:
        """What was used between two readings."""
        thread_s, process_s = self.thread_s - then.thread_s, self.process_s - then.process_s
        children_s = self.children_s - then.children_s
        return {
            "wall_s": (self.mono_ns - then.mono_ns) / 1e9,
            "thread_s": thread_s,
            "others_s": process_s - thread_s + children_s,
            "all_s": process_s + children_s,
        }


def _descendants_s() -> float:
    """CPU seconds of living descendants."""
    stats: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
        except OSError:  # it has just ended
            continue
        stats[int(path.parent.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    total_s, known = 0.0, {os.getpid()}
    for _ in range(5):  # as deep as that
        for pid, (parent, used_s) in list(stats.items()):
            if parent in known and pid not in known:
                known.add(pid)
                total_s += used_s
    return total_s


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def spend(seconds: float, *, busy: bool) -> int:
    """Wait, or work on one core; the work done."""
    until_s, units = time.monotonic() + seconds, 0
    if not busy:
        time.sleep(seconds)
    while busy and time.monotonic() < until_s:
        units += 1 if sum(number * number for number in range(2000)) else 0
    return units


def main(options: dict[str, Any]) -> dict[str, Any]:
    """One run."""
    found: dict[str, Any] = {}
    if options.get("mlflow"):
        import mlflow  # noqa: F401 - what comes on top of it is measured
        import pynvml  # noqa: F401 - as above
    modules, memory_mb = set(sys.modules), rss_mb()
    begin = Reading()
    tool = TOOLS[options["tool"]](options)
    tool.load()
    loaded = Reading()
    added = {name for name in sys.modules if name not in modules}
    found["load"] = loaded.since(begin)
    found["modules"] = len(added)
    found["heavy"] = sorted(added & {"pandas", "sklearn", "torch", "scipy", "numpy", "subprocess"})
    if hasattr(tool, "around"):
        return found | around(tool, options)
    t0 = Reading()
    tool.start()
    t1 = Reading()
    found["start"] = t1.since(t0)
    first_ns = tool.first_ns() if options["tool"] == "mlflow-carbon" else None
    spend(options["settle_s"], busy=False)  # the first of everything is not what a sample costs
    memory_started_mb = rss_mb()
    before, samples = Reading(), tool.samples()
    announce()
    units = spend(options["seconds"], busy=bool(options.get("busy")))
    after = Reading()
    found["samples"] = tool.samples() - samples
    found["loop"] = after.since(before)
    found["units"] = units
    found["memory_mb"] = memory_started_mb - memory_mb
    if options.get("marks") and hasattr(tool, "mark"):
        found["mark_s"] = marks(tool.mark())
    first_ns = first_ns or tool.first_ns()
    found["first_s"] = (first_ns - t0.mono_ns) / 1e9 if first_ns else None
    t2 = Reading()
    found["energy_j"] = tool.stop()
    t3 = Reading()
    found["stop"] = t3.since(t2)
    found["window_ns"] = [t.mono_ns for t in (t0, t1, t2, t3)]
    return found


def announce() -> None:
    """Tell who is waiting to kill this process that it measures."""
    Path("measuring").touch()


def around(tool: Any, options: dict[str, Any]) -> dict[str, Any]:
    """A tool that wraps a function."""
    inside: list[Reading] = []
    units: list[int] = []

    def block() -> None:
        spend(options["settle_s"], busy=False)
        inside.append(Reading())
        announce()
        units.append(spend(options["seconds"], busy=bool(options.get("busy"))))
        inside.append(Reading())

    t0 = Reading()
    energy = tool.around(block)
    t3 = Reading()
    begin, end = inside
    return {
        "start": begin.since(t0),
        "first_s": None,
        "loop": end.since(begin),
        "units": units[0],
        "samples": round(options["seconds"] / options["period_s"]),
        "stop": t3.since(end),
        "memory_mb": None,
        "energy_j": energy,
        "window_ns": [t0.mono_ns, round(begin.mono_ns - options["settle_s"] * 1e9), end.mono_ns, t3.mono_ns],
    }


def marks(once: Callable[[], None]) -> float:
    """CPU seconds of one mark."""
    for _ in range(1000):
        once()
    begin_s = time.thread_time()
    for _ in range(_MARKS):
        once()
    return (time.thread_time() - begin_s) / _MARKS


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))), flush=True)

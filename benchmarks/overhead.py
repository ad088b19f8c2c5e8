"""What measuring costs while a training runs: CPU share of the meter's threads, and slowdown of the loop.

Usage: python benchmarks/overhead.py [SECONDS [ROUNDS [PAIRS]]]
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from contextlib import nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any

from arms import Arm, bench, child_options
from record import GOAL_HEAD, Goal, Report, Table, load, median_interval, spread, three, write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GOAL_PERCENT = 0.5
LOOP_S = 120.0
ROUNDS = 3
PAIRS = 10
PAIR_S = 25.0
SETTLE_S = 5.0  # left out of a pair: what happens once per run is in the share, not in the slowdown
STEPS_PER_S = 20
PHASES = ("data", "forward", "backward", "update")
THREADS = ("sampler", "worker")

ONE_HZ = Arm(name="1 Hz", plugin=True, options={"period_s": 1.0})
TEN_HZ = Arm(name="10 Hz", plugin=True, options={"period_s": 0.1})
PEER = Arm(name="CodeCarbon, 1 s", plugin=False, options={"codecarbon": True})
ALONE = Arm(name="MLflow alone", plugin=False)
TEXT = (
    "One thread computes without pause for {seconds:g} s inside an MLflow run on an SQLite store, in "
    f"{STEPS_PER_S} steps a second of {len(PHASES)} phases each, with `log_step()` once a second; 1 Hz and 10 Hz are the "
    "sampling of `autolog()`. Fresh process for each repeat, the arms in turn."
)
NOTES = (
    (
        "*Footprint*: `overhead_ratio` of `carbon/footprint.json`, the meter's own account from start to end of the run. "
        "*Threads*: the kernel's CPU clocks of the threads named `mlflow-carbon-*`, read by the benchmark, over that of "
        "the process, both over the loop. *All but the main thread* needs no names: it is everything that the main "
        "thread did not use, from before `autolog()` until everything is stored, so it holds the finding of sensors and "
        "the final figures too. That is the figure for CodeCarbon, whose threads live for one reading each."
    ),
    (
        "The share is over the CPU time that the process got. Where other programs take some of the core, the same "
        "readings weigh more: *cores* says how much of one core the process had."
    ),
    (
        "The interval of the slowdown is that of the median from order statistics. It holds what the main thread pays "
        "too: phases, `log_step` and the interpreter's lock."
    ),
)


class Clocks:
    """CPU seconds of this process, of this thread, and of the meter's threads by the kernel's own clocks."""

    def __init__(self) -> None:
        self.process_s = time.process_time()
        self.main_s = time.thread_time()
        self.threads_s = {
            thread.name.removeprefix("mlflow-carbon-"): time.clock_gettime(
                time.pthread_getcpuclockid(thread.ident)
            )
            for thread in threading.enumerate()
            if thread.name.startswith("mlflow-carbon-") and thread.ident is not None
        }

    def since(self, then: Clocks) -> dict[str, float]:
        """What was used between two readings."""
        used = {name: s - then.threads_s.get(name, 0.0) for name, s in self.threads_s.items()}
        return {"process_s": self.process_s - then.process_s, "main_s": self.main_s - then.main_s} | used


class Loop:
    """A steady loop on one core: pure Python, which shares the interpreter's lock with every other thread.

    Args:
        phase: Makes a context around a part of a step.
        log_step: Called once a second.
    """

    def __init__(self, phase: Callable[[str], Any], log_step: Callable[[int], None]) -> None:
        self._phase = phase
        self._log_step = log_step
        self.units = 0
        """Work done: units of about a millisecond."""

    def run(self, seconds: float) -> None:
        """Work for so long by the clock on the wall, in steps of four phases."""
        start_s = time.monotonic()
        until_s = start_s + seconds
        logged = 0
        while (now_s := time.monotonic()) < until_s:
            for name in PHASES:
                part_until_s = time.monotonic() + 1 / (STEPS_PER_S * len(PHASES))
                with self._phase(name):
                    while time.monotonic() < part_until_s:
                        self.units += _unit()
            if now_s - start_s >= logged + 1:
                logged += 1
                self._log_step(logged)


def _unit() -> int:
    total = 0
    for number in range(10_000):
        total += number * number
    return 1 if total else 0


def child(options: dict[str, Any]) -> dict[str, Any]:
    import mlflow

    mlflow.set_experiment("bench")
    created = Clocks()
    stop: Callable[[], Any] = mlflow.end_run
    loop = Loop(lambda _name: nullcontext(), lambda _step: None)
    if "period_s" in options:
        import mlflow_carbon

        mlflow_carbon.autolog(period_s=options["period_s"])
        loop = Loop(mlflow_carbon.phase, mlflow_carbon.log_step)
        stop = _ended_and_flushed
    run_id = mlflow.start_run().info.run_id
    if options.get("codecarbon"):
        stop = _codecarbon()
    if options.get("settle_s"):
        loop.run(options["settle_s"])
    began, units, wall_s = Clocks(), loop.units, time.monotonic()
    loop.run(options["seconds"])
    ended, wall_s = Clocks(), time.monotonic() - wall_s
    stop()
    found = {"loop": ended.since(began), "units": loop.units - units, "wall_s": wall_s}
    found["whole"] = Clocks().since(created)
    if "period_s" in options:
        document = mlflow.artifacts.load_dict(f"runs:/{run_id}/carbon/footprint.json")
        found["footprint_ratio"] = document["total"]["overhead_ratio"]
    return found


def _ended_and_flushed() -> None:
    import mlflow

    import mlflow_carbon

    mlflow.end_run()
    assert mlflow_carbon.flush(60)


def _codecarbon() -> Callable[[], Any]:
    """Starts a tracker; the result stops it."""
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="GBR", measure_power_secs=1, save_to_file=False, log_level="error"
    )
    tracker.start()
    return tracker.stop


def main(seconds: float, rounds: int, pairs: int) -> None:
    before = load()
    with bench(__file__) as samples:
        shares = samples.rounds(
            [_lasting(arm, seconds) for arm in (ONE_HZ, TEN_HZ, PEER)], rounds, warm_up=False
        )
        paired = samples.rounds(
            [_lasting(arm, PAIR_S, settle_s=SETTLE_S) for arm in (ONE_HZ, ALONE)], pairs, warm_up=False
        )
    report = Report(
        title="What measuring costs while a training runs",
        text=TEXT.format(seconds=seconds),
        command=f"python benchmarks/overhead.py {seconds:g} {rounds} {pairs}",
        load=(before, load()),
        tables=(_goals(shares), _shares(shares), _threads(shares), _slowdown(paired)),
        notes=NOTES,
        raw={"shares": shares, "pairs": paired},
    )
    write("overhead", report)


def _lasting(arm: Arm, seconds: float, *, settle_s: float = 0.0) -> Arm:
    return Arm(
        name=arm.name,
        plugin=arm.plugin,
        options={**arm.options, "seconds": seconds, "settle_s": settle_s},
        env=arm.env,
    )


def _others_percent(sample: Mapping[str, Any]) -> float:
    whole = sample["whole"]
    return float(100 * (whole["process_s"] - whole["main_s"]) / whole["process_s"])


def _threads_percent(sample: Mapping[str, Any]) -> float:
    used = sample["loop"]
    return float(100 * sum(used.get(name, 0.0) for name in THREADS) / used["process_s"])


def _goals(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    got = found[ONE_HZ.name]
    readings = {
        "footprint": [100 * s["footprint_ratio"] for s in got],
        "threads": [_threads_percent(s) for s in got],
        "all but the main thread": [_others_percent(s) for s in got],
    }
    return Table(
        title="Goal",
        text="Own threads over the process, CPU time, at 1 Hz; read in three ways (see the notes).",
        head=GOAL_HEAD,
        rows=[
            Goal(what=what, limit=GOAL_PERCENT, unit="%", values=values).row()
            for what, values in readings.items()
        ],
    )


def _shares(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    return Table(
        title="Share of the process's CPU time, by arm",
        text="",
        head=("Arm", "Footprint", "Threads", "All but the main thread", "Cores"),
        rows=[
            (
                name,
                spread([100 * s["footprint_ratio"] for s in got], "%") if "footprint_ratio" in got[0] else "",
                spread([_threads_percent(s) for s in got], "%") if "sampler" in got[0]["loop"] else "",
                spread([_others_percent(s) for s in got], "%"),
                spread([s["loop"]["process_s"] / s["wall_s"] for s in got], ""),
            )
            for name, got in found.items()
        ],
    )


def _threads(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    return Table(
        title="By thread",
        text="CPU time per second of the loop; and what comes once: before the loop (finding sensors, first tags) "
        "and after it (final figures).",
        head=("Arm", "Thread", "In the loop", "Once"),
        rows=[
            (
                arm.name,
                thread,
                spread([1000 * s["loop"][thread] / s["wall_s"] for s in found[arm.name]], "ms/s"),
                spread([1000 * (s["whole"][thread] - s["loop"][thread]) for s in found[arm.name]], "ms"),
            )
            for arm in (ONE_HZ, TEN_HZ)
            for thread in THREADS
        ],
    )


def _slowdown(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    rows = []
    for what, key in (("process", "process_s"), ("main thread only", "main_s")):
        with_us, without = ([s["units"] / s["loop"][key] for s in found[arm.name]] for arm in (ONE_HZ, ALONE))
        slower = [100 * (1 - a / b) for a, b in zip(with_us, without, strict=True)]
        low, high, confidence = median_interval(slower)
        rows.append(
            (
                f"work per CPU second of the {what}",
                f"{three(median(slower))} %",
                f"{three(low)} to {three(high)} % ({100 * confidence:.1f} %)",
                f"{three(min(slower))} to {three(max(slower))} %",
                str(len(slower)),
            )
        )
    return Table(
        title="Slowdown of the loop at 1 Hz",
        text=f"Pairs with and without measuring, A B B A, {PAIR_S:g} s each after {SETTLE_S:g} s to settle. Positive: less "
        "work done with measuring.",
        head=("What", "Median", "Interval", "Range", "Pairs"),
        rows=rows,
    )


if __name__ == "__main__":
    told = child_options()
    if told is not None:
        print(json.dumps(child(told)))
    else:
        given = [float(text) for text in sys.argv[1:]]
        length_s, number, couples = given + [LOOP_S, ROUNDS, PAIRS][len(given) :]
        main(length_s, math.floor(number), math.floor(couples))

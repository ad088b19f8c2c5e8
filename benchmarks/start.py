"""What measuring adds to the start and the end of a run: CPU time of the caller's thread, in fresh processes.

Usage: python benchmarks/start.py [REPEATS]
"""

from __future__ import annotations

import gc
import json
import sys
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

from arms import Arm, added, bench, child_options
from record import GOAL_HEAD, Goal, Report, Table, load, spread, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_MS = 60
END_MS = 50
FIRST_RUN_S = 2.5
LATER_RUN_S = 0.5
LATER_RUNS = 5
REPEATS = 11

ALONE = Arm(name="MLflow alone", plugin=False)
INSTALLED = Arm(name="plugin installed, not switched on", plugin=True)
CALLED = Arm(name="`autolog()`", plugin=True, options={"autolog": True, "flush": True})
VARIABLE = Arm(
    name="`MLFLOW_CARBON_AUTOLOG=1`", plugin=True, options={"flush": True}, env={"MLFLOW_CARBON_AUTOLOG": "1"}
)
PEER = Arm(name="CodeCarbon without MLflow", plugin=False, options={"codecarbon": True})
ARMS = (ALONE, INSTALLED, CALLED, VARIABLE, PEER)

STAGES = {
    "switch_on": "importing and switching on",
    "first_start": "first start",
    "on_and_start": "both together",
    "first_end": "first end",
    "later_start": "later start",
    "later_end": "later end",
    "process": "all threads, from switching on until everything is stored",
}
GOALS = (
    ("first_start", CALLED, START_MS),
    ("on_and_start", CALLED, START_MS),
    ("first_start", VARIABLE, START_MS),
    ("later_start", CALLED, START_MS),
    ("first_end", CALLED, END_MS),
    ("first_end", VARIABLE, END_MS),
    ("later_end", CALLED, END_MS),
)
TEXT = (
    "CPU time of the calling thread in a process that has imported MLflow and set its experiment, on an SQLite "
    f"store: one run of {FIRST_RUN_S} s and {LATER_RUNS} of {LATER_RUN_S} s after it (their median counts). Fresh "
    "process for each repeat, the arms in turn. *Added* is the difference to the neighbour in time with MLflow alone."
)
STAGES_TEXT = (
    "Not differences but whole figures, MLflow's own part included. CodeCarbon's start is constructing and starting "
    "an `OfflineEmissionsTracker`; no MLflow run is in it."
)
NOTES = (
    (
        "Before the first stage, in every arm, Python's garbage collector runs once and is told to leave alone what it "
        "found (`gc.freeze()`). `import mlflow` leaves so many objects that one full pass takes about 100 ms, and "
        "without this it falls into whichever stage happens to make the next objects, in any arm."
    ),
    "With the variable, the hooks are imported and installed inside the first `start_run()`.",
    "What is stored after the end of a run is stored by the background thread: see the last row.",
)


class Stopwatch:
    """CPU milliseconds of this thread, by name."""

    def __init__(self) -> None:
        self.cpu_ms: dict[str, list[float]] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Take the CPU time of a block."""
        before_ns = time.thread_time_ns()
        yield
        self.cpu_ms.setdefault(name, []).append((time.thread_time_ns() - before_ns) / 1e6)


def child(options: dict[str, Any]) -> dict[str, float]:
    import mlflow

    mlflow.set_experiment("bench")  # opens the store, as most scripts do before their first run
    gc.collect()
    gc.freeze()  # see the notes
    watch = Stopwatch()
    start: Callable[[], Any] = mlflow.start_run
    end: Callable[[], Any] = mlflow.end_run
    process_s = time.process_time()
    if options.get("autolog"):
        with watch.time("switch_on"):
            import mlflow_carbon

            mlflow_carbon.autolog()
    elif options.get("codecarbon"):
        with watch.time("switch_on"):
            start, end = _codecarbon()
    for number in range(1 + LATER_RUNS):
        name, length_s = ("first", FIRST_RUN_S) if number == 0 else ("later", LATER_RUN_S)
        with watch.time(f"{name}_start"):
            start()
        time.sleep(length_s)
        with watch.time(f"{name}_end"):
            end()
    if options.get("flush"):
        import mlflow_carbon

        assert mlflow_carbon.flush(60)
    process_ms = 1000 * (time.process_time() - process_s)
    found = {"switch_on": 0.0} | {name: median(values) for name, values in watch.cpu_ms.items()}
    return found | {"on_and_start": found["switch_on"] + found["first_start"], "process": process_ms}


def _codecarbon() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A start that makes and starts a tracker, and an end that stops it."""
    from codecarbon import OfflineEmissionsTracker

    trackers: list[Any] = []

    def start() -> None:
        trackers.append(
            OfflineEmissionsTracker(
                country_iso_code="GBR", measure_power_secs=1, save_to_file=False, log_level="error"
            )
        )
        trackers[-1].start()

    def end() -> None:
        trackers[-1].stop()

    return start, end


def main(repeats: int) -> None:
    before = load()
    with bench(__file__) as samples:
        found = samples.rounds(ARMS, repeats)
    goals = Table(
        title="Goals",
        text="Added CPU time of the caller's thread.",
        head=GOAL_HEAD,
        rows=[
            Goal(
                what=f"{STAGES[stage]}, {arm.name}",
                limit=limit,
                unit="ms",
                values=added(found, arm.name, ALONE.name, stage),
            ).row()
            for stage, arm, limit in GOALS
        ],
    )
    stages = Table(
        title="CPU time of each stage",
        text=STAGES_TEXT,
        head=("Stage", *(arm.name for arm in ARMS)),
        rows=[
            (text, *(spread([s[stage] for s in found[arm.name]], "ms") for arm in ARMS))
            for stage, text in STAGES.items()
        ],
    )
    report = Report(
        title="What measuring adds to the start and the end of a run",
        text=TEXT,
        command=f"python benchmarks/start.py {repeats}",
        load=(before, load()),
        tables=(goals, stages),
        notes=NOTES,
        raw=found,
    )
    write("start", report)


if __name__ == "__main__":
    told = child_options()
    if told is not None:
        print(json.dumps(child(told)))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else REPEATS)

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

    from arms import Samples

START_MS = 60
END_MS = 50
FIRST_RUN_S = 2.5
LATER_RUN_S = 0.5
LATER_RUNS = 5
_MARK = "_mlflow_carbon_original"  # what our hooks bear
REPEATS = 11

ALONE = Arm(name="MLflow alone", plugin=False)
INSTALLED = Arm(name="plugin installed, not switched on", plugin=True, options={"plugin": True})
CALLED = Arm(name="`autolog()`", plugin=True, options={"plugin": True, "autolog": True, "flush": True})
VARIABLE = Arm(
    name="`MLFLOW_CARBON_AUTOLOG=1`",
    plugin=True,
    options={"plugin": True, "flush": True},
    env={"MLFLOW_CARBON_AUTOLOG": "1"},
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
    "process for each repeat, the arms in turn."
)
GOALS_TEXT = (
    "CPU time added in the caller's thread, taken twice: *inside our code*, around what MLflow calls of ours, less "
    "MLflow's own part in it; and the *difference* to the neighbour in time with MLflow alone, which would show what "
    "the first overlooks, but holds the noise of both."
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
    """CPU milliseconds of this thread, by name.

    Args:
        inside: What of it was in our own code; None without the plugin.
    """

    def __init__(self, inside: Inside | None) -> None:
        self.cpu_ms: dict[str, list[float]] = {}
        self._inside = inside

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Take the CPU time of a block."""
        before_ns, before_ms = time.thread_time_ns(), self._inside_ms()
        yield
        self.cpu_ms.setdefault(name, []).append((time.thread_time_ns() - before_ns) / 1e6)
        self.cpu_ms.setdefault(f"inside_{name}", []).append(self._inside_ms() - before_ms)

    def _inside_ms(self) -> float:
        return self._inside.cpu_ms if self._inside is not None else 0.0


class Inside:
    """CPU milliseconds of this thread inside our own code, taken where MLflow calls it.

    MLflow calls the run-context provider, and two of its own methods that are wrapped by ours: of those, the
    outside counts and the inside, MLflow's own part, is taken off again.
    """

    def __init__(self) -> None:
        from mlflow.tracking._tracking_service.client import TrackingServiceClient
        from mlflow.tracking.fluent import ActiveRun

        from mlflow_carbon.provenance.provider import CarbonRunContext

        self.cpu_ms = 0.0
        self._hooked = ((ActiveRun, "__init__"), (TrackingServiceClient, "set_terminated"))
        self._is_switched_on = False
        for owner, name in self._hooked:
            self._wrap(owner, name, -1)
        for name in ("in_context", "tags"):
            self._wrap(CarbonRunContext, name, 1)

    def switched_on(self) -> None:
        """Take the outside of the hooks too, once they are there."""
        if not self._is_switched_on:
            self._is_switched_on = True
            for owner, name in self._hooked:
                self._wrap(owner, name, 1)

    def _wrap(self, owner: type, name: str, sign: int) -> None:
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            before_ns = time.thread_time_ns()
            result = inner(*args, **kwargs)
            if sign > 0 or self._is_switched_on:
                self.cpu_ms += sign * (time.thread_time_ns() - before_ns) / 1e6
            if name == "in_context" and hasattr(self._hooked[0][0].__init__, _MARK):
                self.switched_on()
            return result

        setattr(owner, name, timed)


def child(options: dict[str, Any]) -> dict[str, float]:
    import mlflow

    mlflow.set_experiment("bench")  # opens the store, as most scripts do before their first run
    gc.collect()
    gc.freeze()  # see the notes
    inside = Inside() if options.get("plugin") else None
    watch = Stopwatch(inside)
    start: Callable[[], Any] = mlflow.start_run
    end: Callable[[], Any] = mlflow.end_run
    process_s = time.process_time()
    if options.get("autolog"):
        with watch.time("switch_on"):
            import mlflow_carbon

            mlflow_carbon.autolog()
        if inside is not None:
            inside.switched_on()
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
    return found | {
        "on_and_start": found["switch_on"] + found["first_start"],
        "inside_on_and_start": found["switch_on"] + found["inside_first_start"],
        "process": process_ms,
    }


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
        tables=(_goals(found), stages),
        notes=NOTES,
        raw=found,
    )
    write("start", report)


def _goals(found: Samples) -> Table:
    rows = []
    for stage, arm, limit in GOALS:
        readings = {
            "inside our code": [s[f"inside_{stage}"] for s in found[arm.name]],
            "difference": added(found, arm.name, ALONE.name, stage),
        }
        rows += [
            Goal(what=f"{STAGES[stage]}, {arm.name}: {what}", limit=limit, unit="ms", values=values).row()
            for what, values in readings.items()
        ]
    return Table(title="Goals", text=GOALS_TEXT, head=GOAL_HEAD, rows=rows)


if __name__ == "__main__":
    told = child_options()
    if told is not None:
        print(json.dumps(child(told)))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else REPEATS)

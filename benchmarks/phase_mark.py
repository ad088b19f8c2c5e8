"""What a phase mark, a step and a count cost the training thread, inside a measured run and without one.

Usage: python benchmarks/phase_mark.py [REPEATS]
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from arms import Arm, bench, child_options
from record import GOAL_HEAD, Goal, Report, Table, load, spread, write

if TYPE_CHECKING:
    from collections.abc import Callable

PAIR_US = 4  # two marks of two microseconds, as the documentation of `phase` says
PAIRS_A_BLOCK = 20_000
CALLS_A_BLOCK = 500
BLOCKS = 7
REPEATS = 5

ARMS = (Arm(name="phase marks", plugin=True),)
PAIR = "with phase(...), in a run"
TEXT = (
    "CPU time of the calling thread for one `with phase(...)` (a pair of marks), one `count()` and one `log_step()`: "
    f"blocks of {PAIRS_A_BLOCK} pairs or counts and {CALLS_A_BLOCK} steps, {BLOCKS} blocks inside measured runs and "
    f"{BLOCKS} between them, in turn, in each of {{repeats}} processes."
)
NOTES = (
    (
        "`log_step()` asks the sampler for a reading, so in a tight loop it costs the sampler's thread too; that is not "
        "in these figures (see [overhead](overhead.md))."
    ),
)


def child() -> dict[str, list[float]]:
    import mlflow

    import mlflow_carbon

    mlflow.set_experiment("bench")
    mlflow_carbon.autolog()
    phase = mlflow_carbon.phase
    calls: dict[str, tuple[Callable[[int], Any], int]] = {
        "empty loop": (_nothing, PAIRS_A_BLOCK),
        "with phase(...)": (lambda number: _pairs(phase, number), PAIRS_A_BLOCK),
        "count()": (lambda number: _counts(mlflow_carbon.count, number), PAIRS_A_BLOCK),
        "log_step()": (lambda number: _steps(mlflow_carbon.log_step, number), CALLS_A_BLOCK),
    }
    found: dict[str, list[float]] = {}
    for _ in range(BLOCKS):
        for where in ("in a run", "no run"):
            if where == "in a run":
                mlflow.start_run()
                time.sleep(0.5)
            for name, (work, number) in calls.items():
                before_ns = time.thread_time_ns()
                work(number)
                used_us = (time.thread_time_ns() - before_ns) / 1000
                found.setdefault(f"{name}, {where}", []).append(used_us / number)
            if where == "in a run":
                mlflow.end_run()
                mlflow_carbon.flush(60)
    return found


def _nothing(number: int) -> None:
    for _ in range(number):
        pass


def _pairs(phase: Callable[[str], Any], number: int) -> None:
    for _ in range(number):
        with phase("forward"):
            pass


def _counts(count: Callable[[str, float], None], number: int) -> None:
    for _ in range(number):
        count("image", 64)


def _steps(log_step: Callable[[int], None], number: int) -> None:
    for step in range(number):
        log_step(step)


def main(repeats: int) -> None:
    before = load()
    with bench(__file__) as samples:
        found = samples.rounds(ARMS, repeats)[ARMS[0].name]
    names = [key for key in found[0] if key != "load"]
    values = {name: [value for sample in found for value in sample[name]] for name in names}
    goal = Table(
        title="Goal",
        text="No goal of the project, but what the documentation of `phase` promises.",
        head=GOAL_HEAD,
        rows=[Goal(what=f"{PAIR}, CPU of a pair", limit=PAIR_US, unit="us", values=values[PAIR]).row()],
    )
    calls = Table(
        title="CPU time of the caller",
        text="The loop around each call is included; an empty loop is the loop alone.",
        head=("What", "Median (range), blocks"),
        rows=[(name, spread(got, "us")) for name, got in sorted(values.items())],
    )
    report = Report(
        title="What a phase mark costs",
        text=TEXT.format(repeats=repeats),
        command=f"python benchmarks/phase_mark.py {repeats}",
        load=(before, load()),
        tables=(goal, calls),
        notes=NOTES,
        raw={ARMS[0].name: found},
    )
    write("phase_mark", report)


if __name__ == "__main__":
    if child_options() is not None:
        print(json.dumps(child()))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else REPEATS)

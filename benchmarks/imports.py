"""What the installed plugin adds to `import mlflow`: CPU time and modules, in fresh processes.

Usage: python benchmarks/imports.py [REPEATS]
"""

from __future__ import annotations

import functools
import json
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from arms import Arm, added, bench, child_options
from record import GOAL_HEAD, Goal, Report, Table, load, spread, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arms import Samples

GOAL_MS = 50
HEAVY = ("torch", "pandas", "scipy")
REPEATS = 25

PLAIN = Arm(name="without the plugin", plugin=False)
ARMS = (
    PLAIN,
    Arm(name="with the plugin", plugin=True),
    Arm(name="with the plugin and MLFLOW_CARBON_AUTOLOG=1", plugin=True, env={"MLFLOW_CARBON_AUTOLOG": "1"}),
)
TEXT = (
    "CPU time, each in a fresh process with warm file caches, the arms in turn. The plugin's part is taken twice: "
    "directly, around the loading of its entry point inside `import mlflow`; and as the difference of the whole import "
    "to its neighbour in time without the plugin. The second is what a user gets, but `import mlflow` itself takes so "
    "long that it is mostly noise."
)


def child() -> dict[str, Any]:
    loading_ms: list[float] = []
    for name in ("importlib.metadata", "importlib_metadata"):  # MLflow takes either
        _watch(import_module(name).EntryPoint, loading_ms)
    before_s = time.process_time()
    import mlflow  # noqa: F401 - importing it is what is measured

    used_s = time.process_time() - before_s
    return {"cpu_ms": 1000 * used_s, "plugin_ms": sum(loading_ms), "modules": sorted(sys.modules)}


def _watch(entry_point: Any, loading_ms: list[float]) -> None:
    """Take the CPU time of loading our own entry points."""
    load_it = entry_point.load

    @functools.wraps(load_it)
    def timed(self: Any) -> Any:
        before_ns = time.thread_time_ns()
        found = load_it(self)
        if self.value.startswith("mlflow_carbon"):
            loading_ms.append((time.thread_time_ns() - before_ns) / 1e6)
        return found

    entry_point.load = timed


def main(repeats: int) -> None:
    before = load()
    with bench(__file__) as samples:
        found = samples.rounds(ARMS, repeats)
    modules = {arm.name: _modules_added(found, arm) for arm in ARMS[1:]}
    whole = Table(
        title="CPU time of `import mlflow`",
        text="",
        head=("Arm", "Median (range), repeats"),
        rows=[(name, spread([s["cpu_ms"] for s in got], "ms")) for name, got in found.items()],
    )
    report = Report(
        title="What the plugin adds to `import mlflow`",
        text=TEXT,
        command=f"python benchmarks/imports.py {repeats}",
        load=(before, load()),
        tables=(_goals(found, modules), whole),
        notes=[f"Modules added {name}: {_listed(names)}." for name, names in modules.items()],
        raw={
            name: [{k: v for k, v in sample.items() if k != "modules"} for sample in got]
            for name, got in found.items()
        },
    )
    write("imports", report)


def _modules_added(found: Samples, arm: Arm) -> list[str]:
    return sorted(set(found[arm.name][0]["modules"]) - set(found[PLAIN.name][0]["modules"]))


def _goals(found: Samples, modules: Mapping[str, list[str]]) -> Table:
    rows = []
    for arm in ARMS[1:]:
        readings = {
            "loading its entry point": [s["plugin_ms"] for s in found[arm.name]],
            "difference of the whole import": added(found, arm.name, PLAIN.name, "cpu_ms"),
        }
        rows += [
            Goal(what=f"{arm.name}: {what}", limit=GOAL_MS, unit="ms", values=values).row()
            for what, values in readings.items()
        ]
    heavy = sorted({m for names in modules.values() for m in names if m.partition(".")[0] in HEAVY})
    verdict = "**missed**" if heavy else "met"
    rows.append((f"{', '.join(HEAVY)} loaded by it", "none", ", ".join(heavy) or "none", verdict))
    return Table(title="Goals", text="", head=GOAL_HEAD, rows=rows)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


if __name__ == "__main__":
    if child_options() is not None:
        print(json.dumps(child()))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else REPEATS)

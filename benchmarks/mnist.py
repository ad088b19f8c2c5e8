"""The trainer's accuracy on real MNIST and what it cost: `python benchmarks/mnist.py [seeds]`.

Runs `python -m projects.mnist.train --accum 4` (3 epochs) once per seed, each in a fresh process with
its own store, and reads what the run has stored. Needs MLFLOW_CARBON_DATA.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from record import GOAL_HEAD, Goal, Report, Table, load, spread, write

ROOT = Path(__file__).parents[1]
DEFAULT_SEEDS = 3


def one(seed: int, folder: Path) -> dict[str, float]:
    """Figures of one training."""
    env = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_CARBON_HOME": str(folder / "home"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "projects.mnist.train", "--accum", "4", "--seed", str(seed)]
    checkpoints = ["--checkpoint_dir", str(folder / "checkpoints")]
    subprocess.run([*command, *checkpoints], env=env, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=env["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.data.tags["carbon.dataset"] == "mnist", "needs the real files: set MLFLOW_CARBON_DATA"
    return {
        "seed": seed,
        "accuracy": run.data.metrics["test/accuracy"],
        "process_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "energy_kwh": run.data.metrics["carbon/energy_kwh"],
        "emissions_gco2e": run.data.metrics["carbon/emissions_gco2e"],
    }


def main() -> None:
    """Train once per seed and write the page."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_SEEDS
    before, runs = load(), []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one(seed, Path(folder)))
    error_percent = Goal(
        what="test error after 3 epochs, accum=4 (98.9 % accuracy is 1.1 % error)",
        limit=1.1,
        unit="%",
        values=[100 * (1 - run["accuracy"]) for run in runs],
    )
    rows = [
        ("test accuracy", spread([100 * run["accuracy"] for run in runs], "%")),
        ("CPU time of the whole process", spread([run["process_cpu_s"] for run in runs], "s")),
        ("energy, modelled (L0)", spread([1000 * run["energy_kwh"] for run in runs], "Wh")),
    ]
    write(
        "mnist",
        Report(
            title="The MNIST trainer",
            text="`accum=4`, effective batch 256, three epochs, one run per seed, real MNIST.",
            command=f"python benchmarks/mnist.py {seeds}",
            load=(before, load()),
            tables=(
                Table(title="Goal", text="", head=GOAL_HEAD, rows=[error_percent.row()]),
                Table(title="Figures", text="", head=("What", "Median (range), repeats"), rows=rows),
            ),
            notes=(
                (
                    "The energy is modelled: CPU by CodeCarbon's load formula, memory by its size. A shared machine "
                    "changes it; the CPU time of the process is the sounder figure."
                ),
            ),
            raw={"runs": runs},
        ),
    )


if __name__ == "__main__":
    main()

"""Kills a measured training at random moments and asks whether `recover` always leaves a consistent record.

Usage: python benchmarks/kill_loop.py [--kills N] [--seed N] [--workers N]

Each kill: a forked process trains inside an MLflow run on an SQLite store of its own, measured by `autolog()`;
SIGKILL hits it at a random moment, sometimes before the first reading, sometimes while or after it stores its
figures. `mlflow-carbon recover` follows, at times killed as well, and once more with the journal put back. What
the store then holds is read with sqlite3 and zlib, not with our own code. The simulated GPU draws a known power.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this program

from forks import forked, left_over
from kill_record import Kill, Place, examine
from kill_report import END_S, GPU_W, KILL_S, LOSS_S, START_S, TRAIN_S, report
from record import load, machine, write

PERIODS_S = (0.05, 0.2, 1.0)
RECOVER_KILLED_RATIO = 0.3
ORPHAN_PATIENCE_S = 3.0
STARTUP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One kill: when, of what.

    Attributes:
        number: Counts from 0.
        period_s: Sampling period.
        train_s: The training lasts so long, if it is let.
        kill_s: SIGKILL so long after the training calls `start_run`; below 0: before.
        recover_kill_s: The first `recover` is killed so long after its start; None: it is let finish.
    """

    number: int
    period_s: float
    train_s: float
    kill_s: float
    recover_kill_s: float | None

    @classmethod
    def draw(cls, number: int, seed: int) -> Plan:
        """The plan of a number; the same for the same seed."""
        dice = random.Random(f"{seed}-{number}")
        is_cut = dice.random() < RECOVER_KILLED_RATIO
        train_s = dice.uniform(*TRAIN_S)
        # A third each: while it starts, at any time, and while it stores its final figures.
        kill_s = (dice.uniform(-0.1, START_S), dice.uniform(*KILL_S), train_s + dice.uniform(0.0, END_S))[
            number % 3
        ]
        return cls(
            number=number,
            period_s=dice.choice(PERIODS_S),
            train_s=train_s,
            kill_s=kill_s,
            recover_kill_s=dice.uniform(0.0, 0.3) if is_cut else None,
        )


def settle(place: Place, period_s: float) -> None:
    """Point MLflow and the plugin to the folder of this kill."""
    os.chdir(place.folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place.store}"
    os.environ["MLFLOW_CARBON_HOME"] = str(place.home)
    os.environ["MLFLOW_CARBON_PERIOD_S"] = str(period_s)
    import mlflow

    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])


def train(place: Place, plan: Plan) -> None:
    """A training that ends by itself, unless it is killed before."""
    settle(place, plan.period_s)
    import mlflow

    import mlflow_carbon

    mlflow_carbon.autolog(zone="GB", grid="annual")
    place.is_ready.touch()
    time.sleep(0.1)
    with mlflow.start_run(experiment_id=place.experiment):
        until_s, step = time.monotonic() + plan.train_s, 0
        while time.monotonic() < until_s:
            for name in ("data", "forward", "backward", "update"):
                with mlflow_carbon.phase(name):
                    time.sleep(0.005)
            step += 1
            mlflow_carbon.count("samples", 32)
            if step % 5 == 0:
                mlflow_carbon.log_step(step)
    mlflow_carbon.flush(30)
    place.is_done.touch()
    time.sleep(KILL_S[1] + 60)


def recover(place: Place) -> None:
    """What a user types."""
    settle(place, 1.0)
    from mlflow_carbon.cli import main

    if main(["recover"]):
        raise SystemExit("expected `recover` to succeed")


def one_kill(plan: Plan, template: Place) -> dict[str, Any]:
    """Train, kill, recover, look."""
    place = template.copy(plan.number)
    began_s = time.monotonic()
    pid = forked(lambda: train(place, plan), place.folder / "train.log")
    until_s = time.monotonic() + STARTUP_S
    while not place.is_ready.exists() and time.monotonic() < until_s:
        time.sleep(0.005)
    time.sleep(plan.kill_s + 0.1)
    os.kill(pid, signal.SIGKILL)
    kill = Kill(at_ns=time.monotonic_ns(), was_done=place.is_done.exists())
    os.waitpid(pid, 0)
    orphans = left_over(pid, ORPHAN_PATIENCE_S)
    kept = place.keep_journals()
    failures = []
    if plan.recover_kill_s is not None:
        cut = forked(lambda: recover(place), place.folder / "recover.log")
        time.sleep(plan.recover_kill_s)
        os.kill(cut, signal.SIGKILL)
        os.waitpid(cut, 0)
    if not finished(place):
        failures.append("recover failed")
    before = place.contents()
    facts, wrong = examine(before, kept, kill, gpu_w=GPU_W)
    failures += wrong
    if kept and not failures:  # once more, from the same journal
        place.put_back(kept)
        if not finished(place):
            failures.append("the second recover failed")
        failures += place.changes(before)
    failures += [f"orphan: {name}" for name in orphans]
    if (facts["loss_s"] or 0.0) > LOSS_S:
        failures.append(f"loss: {facts['loss_s']} s")
    if not failures:
        shutil.rmtree(place.folder)
    return {
        **asdict(plan),
        **facts,
        "orphans": orphans,
        "problems": failures,
        "wall_s": round(time.monotonic() - began_s, 2),
    }


def finished(place: Place) -> bool:
    """Run `recover` to its end; whether it succeeded."""
    pid = forked(lambda: recover(place), place.folder / "recover.log")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    before, began_s = load(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kill-loop-"))
    template = _prepared(folder)
    plans = [Plan.draw(number, options.seed) for number in range(options.kills)]
    found = []
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("fork")) as pool:
        for result in pool.map(one_kill, plans, [template] * len(plans)):
            found.append(result)
            if result["problems"]:
                print(f"kill {result['number']}: {result['problems']}", file=sys.stderr, flush=True)
            elif len(found) % 25 == 0:
                print(f"{len(found)} kills", file=sys.stderr, flush=True)
    wall_s = time.monotonic() - began_s
    command = f"python benchmarks/kill_loop.py --kills {options.kills} --seed {options.seed}"
    write("kill_loop", report(found, command=command, loads=(before, load()), wall_s=wall_s))
    bad = sum(bool(r["problems"]) for r in found)
    print(f"{bad} inconsistent records of {len(found)} kills")
    if bad:
        print(f"what was left of them is in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if bad else 0


def _prepared(folder: Path) -> Place:
    """A store with one experiment, the simulated GPU, and everything imported that the forks will need."""
    for name in [n for n in os.environ if n.startswith(("MLFLOW_", "CODECARBON_"))]:
        del os.environ[name]
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    from mlflow_carbon.testing import NvmlStub, SimulatedGpu, compile_stub, constant

    stub = NvmlStub(compile_stub(folder), [SimulatedGpu(waveform=constant(GPU_W))], is_virtual=False)
    stub.load()
    machine()  # reads versions, which the forks then need not
    place = Place(folder=folder / "template", experiment="")
    place.folder.mkdir()
    pid = forked(lambda: _make_store(place), folder / "template.log")
    if os.waitpid(pid, 0)[1]:
        raise SystemExit((folder / "template.log").read_text(encoding="utf-8"))
    # Imports only: an engine or a thread must not be there before the fork.
    import mlflow.store.tracking.sqlalchemy_store

    import mlflow_carbon.assembly
    import mlflow_carbon.autologging
    import mlflow_carbon.cli
    import mlflow_carbon.grid.annual
    import mlflow_carbon.provenance.environment
    import mlflow_carbon.sensors
    import mlflow_carbon.session.recovery

    assert mlflow
    assert mlflow_carbon
    return Place(folder=place.folder, experiment=(place.folder / "experiment").read_text(encoding="utf-8"))


def _make_store(place: Place) -> None:
    settle(place, 1.0)
    import mlflow

    experiment = mlflow.create_experiment("kills", artifact_location=str(place.folder.parent / "artifacts"))
    (place.folder / "experiment").write_text(experiment, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""What every meter costs: CPU time of import, start, sample and stop, one after another in fresh processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from forks import left_over, members
from peer_tools import J_PER_KWH
from peer_waves import ALL, gpu, zone
from peer_world import OURS, Driver, Scene, world

from mlflow_carbon.testing import constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PERIOD_S = 0.1
# As fast as each can: eco2AI writes its file anew each time, carbontracker waits a second inside each reading.
PERIODS_S = {"eco2AI": 0.5}
COST_S = 5.0
SETTLE_S = 2.0
PAIR_S = 10.0
KILL_AFTER_S = 4.0
RANKS = 4
RANK_S = 6.0

SCENE = Scene(
    gpus=[gpu(constant(300.0))],
    zones=[zone("intel-rapl:0", "package-0", 150.0), zone("intel-rapl:0:0", "dram", 20.0)],
)

Found = dict[str, list[dict[str, Any]]]


def costs(driver: Driver, rounds: int, tools: Sequence[str] = ALL) -> Found:
    """Every tool once a round, the order reversed in every second one, while the main thread computes."""
    found: Found = {tool: [] for tool in tools}
    for index in range(rounds):
        for tool in tools if index % 2 == 0 else tuple(reversed(tools)):
            options = {
                "seconds": COST_S,
                "period_s": PERIODS_S.get(tool, PERIOD_S),
                "settle_s": SETTLE_S,
                "busy": True,
                "marks": True,
                "mlflow": tool == OURS,
            }
            found[tool].append(driver.run(tool, SCENE, options))
        print(f"costs: round {index + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


def pairs(driver: Driver, rounds: int, seconds: float = PAIR_S) -> Found:
    """A computing main thread with our meter at 1 Hz and without any, in turn."""
    found: Found = {"1 Hz": [], "none": []}
    for index in range(rounds):
        for name in ("1 Hz", "none") if index % 2 == 0 else ("none", "1 Hz"):
            options = {
                "seconds": seconds,
                "period_s": 1.0,
                "settle_s": SETTLE_S,
                "busy": True,
                "mlflow": True,
            }
            found[name].append(driver.run(OURS if name == "1 Hz" else "none", SCENE, options))
        print(f"pairs: round {index + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


def good(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The samples that did not fail."""
    return [s for s in samples if "error" not in s]


def per_sample_ms(samples: Sequence[Mapping[str, Any]]) -> list[float]:
    """CPU of everything but the main thread, by reading."""
    return [1000 * s["loop"]["others_s"] / s["samples"] for s in good(samples) if s["samples"]]


def stage_ms(samples: Sequence[Mapping[str, Any]], stage: str, key: str) -> list[float]:
    """CPU or wall milliseconds of a stage."""
    return [1000 * s[stage][key] for s in good(samples)]


def share_percent(samples: Sequence[Mapping[str, Any]]) -> list[float]:
    """CPU of everything but the main thread over that of all."""
    return [100 * s["loop"]["others_s"] / s["loop"]["all_s"] for s in good(samples)]


def slowdown_percent(found: Found) -> list[float]:
    """How much less work a CPU second of the process does with our meter; pairs of one round."""
    rates = {
        name: [s["units"] / s["loop"]["all_s"] if "error" not in s else None for s in samples]
        for name, samples in found.items()
    }
    both = zip(rates["1 Hz"], rates["none"], strict=True)
    return [100 * (1 - a / b) for a, b in both if a is not None and b is not None]


def killed(driver: Driver, tool: str) -> dict[str, Any]:
    """SIGKILL in mid-measurement: which processes live on, and which files are left."""
    place = driver.place()
    options = {"seconds": 60.0, "period_s": 1.0, "mlflow": tool == OURS}
    with world(driver.libraries, SCENE, place) as here:
        process = subprocess.Popen(
            driver.command(tool, options),
            cwd=place,
            env=driver.variables(tool, place, here.variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until_s = time.monotonic() + 60
        while not (place / "measuring").exists() and process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.05)
        time.sleep(KILL_AFTER_S)
        process.send_signal(signal.SIGKILL)
        process.wait()
        orphans = left_over(process.pid, 3.0)
        for pid in members(process.pid):  # ours to end: they are of the session that was started here
            os.kill(pid, signal.SIGKILL)
    left = [p for p in place.rglob("*") if p.is_file() and _is_record(p.relative_to(place))]
    return {"orphans": orphans, "left": [f"{p.name} ({p.stat().st_size} B)" for p in left]}


def _is_record(path: Path) -> bool:
    """Whether a file may hold what was measured, and is not of the simulation or a cache."""
    simulated = path.parts[0] in ("sys", "measuring") or path.name.startswith("nvml-state-")
    return not simulated and path.suffix in (".csv", ".json", ".jsonl", ".hdf5", ".log", ".txt", ".db")


def ranks(driver: Driver, tool: str) -> dict[str, Any]:
    """Four ranks of a job on one node, each with its own meter: the sum of what they tell over the truth.

    Ours log to one MLflow run, as the ranks of a training do, and it is the run that tells.
    """
    place = driver.place()
    options: dict[str, Any] = {"seconds": RANK_S, "period_s": 1.0, "mlflow": tool == OURS}
    run = _new_run(place) if tool == OURS else None
    options |= run or {}
    with world(driver.libraries, SCENE, place) as here:
        folders = [place / f"rank-{rank}" for rank in range(RANKS)]
        for folder in folders:
            folder.mkdir()
        processes = [
            subprocess.Popen(
                driver.command(tool, options),
                cwd=folder,
                env=driver.variables(tool, place, here.variables) | _rank(rank),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for rank, folder in enumerate(folders)
        ]
        outputs = [process.communicate(timeout=90)[0] for process in processes]
    results = [json.loads(text.strip().splitlines()[-1]) for text in outputs if text.strip()]
    told_j = [_stored_j(run)] if run else [r["energy_j"].get("gpu", 0.0) for r in results]
    truly_j = [300.0 * (r["window_ns"][2] - r["window_ns"][1]) / 1e9 for r in results]
    return {"told_j": told_j, "true_j": truly_j, "times": sum(told_j) / median(truly_j) if truly_j else None}


def _new_run(place: Path) -> dict[str, str]:
    """A run in a database of its own, for `track`."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{place / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("ranks", artifact_location=(place / "artifacts").as_uri())
    return {"run_id": client.create_run(experiment).info.run_id, "tracking_uri": uri}


def _stored_j(run: Mapping[str, str]) -> float:
    """What the run says of the GPU."""
    from mlflow import MlflowClient

    metrics = MlflowClient(tracking_uri=run["tracking_uri"]).get_run(run["run_id"]).data.metrics
    return float(metrics["carbon/energy_gpu_kwh"]) * J_PER_KWH


def _rank(rank: int) -> dict[str, str]:
    """What torchrun tells a rank."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(RANKS),
        "LOCAL_WORLD_SIZE": str(RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "bench",
    }

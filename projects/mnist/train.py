"""Train a LeNet on MNIST under the eyes of mlflow-carbon: `python -m projects.mnist.train --accum 4`.

Reads top to bottom: settings, data, a wait for a cleaner grid if one is asked for, then epochs of groups of
micro-batches. Measuring is one call (`autolog`, in `report.opened`) and the phase markers of `step.update`.
"""

from __future__ import annotations

import ctypes
import math
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import torch

import mlflow_carbon
from projects.mnist import carbon, data, report, step
from projects.mnist.config import Config, ConfigError, TrainerError, program, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from projects.mnist.report import Log
    from projects.mnist.step import Samples, State

__all__ = ["choose_amp", "main", "save", "train"]

CHECKPOINT_FORMAT = 1


def train(config: Config, *, tags: Mapping[str, str] | None = None) -> int:
    """Train as configured, the run with these tags. Returns the exit code."""
    device = step.pick_device(config.device)
    if config.amp == "fp16" and device.type != "cuda":
        raise ConfigError(
            "amp: expected auto, bf16 or off on a CPU, got 'fp16', which needs CUDA; use amp=auto"
        )
    _require_writable(Path(config.checkpoint_dir))
    report.require_server(mlflow.get_tracking_uri())  # before a download that may take minutes
    dataset = data.load(config.data_dir)
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    waited = carbon.wait(config)
    with report.opened(config, params={"trainer": "lenet"} | config.as_params(), dataset=dataset.name) as log:
        training = step.samples(dataset.train_images, dataset.train_labels, device)
        testing = step.samples(dataset.test_images, dataset.test_labels, device)
        amp, ratio = choose_amp(config, training, device)
        log.params({"amp_used": amp})
        metrics, of_wait = carbon.started(waited)
        log.metrics(metrics | ({} if ratio is None else {"train/amp_probe_ratio": ratio}))
        log.tags(of_wait | dict(tags or {}))
        state = start(config, count=len(training), device=device, amp=amp)
        run_epochs(state, training, testing, config, log=log)
        metrics, of_wait = carbon.outcome(waited, mlflow_carbon.snapshot())
        log.metrics(metrics)
        log.tags(of_wait)
        log.model(state.model, dtype="uint8", shape=(28, 28))
    return log.finish()


def run_epochs(state: State, training: Samples, testing: Samples, config: Config, *, log: Log) -> None:
    """All epochs, or as many as the carbon budget allows, each with its checkpoint and its line."""
    budget = carbon.Budget(config.carbon_budget_gco2e)
    folder = Path(config.checkpoint_dir) / log.run_id
    context = {"train/batch_size": config.batch_size, "train/precision_bits": step.BITS[state.amp]}
    for epoch in range(1, config.epochs + 1):
        lap = one_epoch(state, training, config, epoch=epoch, is_over=budget.is_spent)
        lr = float(state.scheduler.get_last_lr()[0])
        test_loss, accuracy = step.evaluate(state, testing)
        values = {"train/loss": lap.loss, "train/lr": lr, "test/loss": test_loss, "test/accuracy": accuracy}
        save(folder / "last.pt", state, config, epoch=epoch, values=values)
        log.epoch(epoch, values | context, images=lap.images)
        if budget.is_spent():
            log.stopped(budget.reason(epoch))
            break
    budget.complain()


class Lap(NamedTuple):
    """What an epoch has done: the mean loss over so many images, fewer than all where it was ended early."""

    loss: float
    images: int


def one_epoch(
    state: State,
    training: Samples,
    config: Config,
    *,
    epoch: int,
    is_over: Callable[[], bool] = lambda: False,
) -> Lap:
    """Every sample once, one update a group, until it is over.

    Raises:
        TrainerError: If the loss is no longer a number: more epochs would only burn energy.
    """
    from tqdm import tqdm

    total = torch.zeros((), dtype=torch.float64, device=state.device)
    groups = list(step.groups(len(training), config.batch_size, seed=config.seed, epoch=epoch))
    done = 0
    for group in tqdm(
        groups, desc=f"epoch {epoch}/{config.epochs}", unit="update", leave=False, disable=None
    ):
        total += step.update(state, training, group=group, micro=config.micro_batch)
        done += len(group)
        if is_over():
            break
    loss = total.item() / done
    if not math.isfinite(loss):
        raise TrainerError(
            f"train/loss: expected a number in epoch {epoch}, got {loss}; lower lr ({config.lr:g})"
        )
    return Lap(loss, done)


def start(config: Config, *, count: int, device: torch.device, amp: str) -> State:
    """The state before the first update."""
    torch.manual_seed(config.seed)
    model = step.LeNet()
    if config.compile:
        model.compile()
    updates = math.ceil(count / config.batch_size) * config.epochs
    return step.new_state(model, lr=config.lr, updates=updates, device=device, amp=amp)


def choose_amp(config: Config, training: Samples, device: torch.device) -> tuple[str, float | None]:
    """What the forward pass computes in, and the measured cost of bf16 over fp32 where that mattered."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16" if native else "fp16") if config.amp == "auto" else config.amp, None
    if config.amp == "off":
        return "off", None
    ratio = step.probe(training, micro=config.micro_batch)
    if config.amp == "bf16" and ratio > 1:
        say(f"amp: bf16 costs {ratio:.1f} times as much as fp32 on this CPU; amp=auto would use fp32")
    return ("bf16" if config.amp == "bf16" or ratio < 1 else "off"), ratio


def save(path: Path, state: State, config: Config, *, epoch: int, values: dict[str, float]) -> None:
    """Write a checkpoint atomically: a crash leaves the old file or the whole new one.

    Loads with `torch.load(path, weights_only=True)`. The order of samples follows from seed and epoch.
    """
    content: dict[str, Any] = {
        "format": CHECKPOINT_FORMAT,
        "model": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "scaler": state.scaler.state_dict(),
        "amp": state.amp,
        "epoch": epoch,
        "metrics": values,
        "torch_rng": torch.get_rng_state(),
        "config": asdict(config),
        "config_sha256": config.sha256(),
    }
    with data.atomically(path) as part:
        torch.save(content, part)


def _require_writable(folder: Path) -> None:
    """Find out before the first epoch, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"checkpoint_dir: expected a folder that can be written, got {error}") from error


def keep_freed_memory() -> None:
    """Let glibc keep big freed blocks; else it hands each activation back to the kernel and takes it anew.

    Up to half the CPU time of large batches goes into those page faults. Nothing on other C libraries.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in (
        (-3, 1 << 30),
        (-1, 2**31 - 1),
        (-2, 64 << 20),
    ):  # MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD
        libc.mallopt(option, value)


def main() -> int:
    """The command line."""
    return program(train, sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())

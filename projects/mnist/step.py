"""The network, what its training carries along, and one update of it.

An update has the whole group before it starts and divides by its number of samples, so that `accum`
micro-batches give the gradients of the one large batch, the ragged last group included.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from mlflow_carbon import phase
from projects.mnist.config import ConfigError, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

__all__ = [
    "AMP",
    "BITS",
    "LeNet",
    "Samples",
    "State",
    "evaluate",
    "groups",
    "new_state",
    "pick_device",
    "probe",
    "samples",
    "update",
]

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
BITS = {"off": 32, "bf16": 16, "fp16": 16}
_EVALUATION_BATCH = (
    250  # larger ones cost up to seven times more: glibc hands each big activation back to the kernel
)
_WARM_UP_RATIO = 0.25
_PROBE_STEPS, _PROBE_WARM_UP = 6, 2
_MEAN, _DEVIATION = 0.1307 * 255, 0.3081 * 255  # of the pixels of MNIST's training images


class LeNet(nn.Module):
    """LeNet's layout with present-day parts, 127,462 weights. Takes pixels 0 to 255 as (n, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.hidden1 = nn.Linear(800, 128)
        self.hidden2 = nn.Linear(128, 84)
        self.output = nn.Linear(84, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits of the ten digits, (n, 10)."""
        x = (pixels.to(self.output.weight.dtype).unsqueeze(1) - _MEAN) / _DEVIATION
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.hidden1(x.flatten(1)))
        x = functional.relu(self.hidden2(x))
        logits: torch.Tensor = self.output(x)
        return logits


@dataclass(frozen=True, slots=True)
class Samples:
    """Pixels (n, 28, 28) as bytes and labels (n,), both on the device of the training."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What an update changes; all of it belongs into a checkpoint.

    Attributes:
        amp: `off`, `bf16` or `fp16`: what the forward pass computes in.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    device: torch.device
    amp: str

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        dtype = AMP[self.amp]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)


def pick_device(wanted: str) -> torch.device:
    """The device asked for; `auto` is CUDA if a small product works there, else the CPU with a note.

    Raises:
        ConfigError: If CUDA is asked for and does not work.
    """
    problem = "not asked for" if wanted == "cpu" else _cuda_problem()
    if wanted == "cuda" and problem:
        raise ConfigError(f"device: expected a CUDA device that works, got {problem}; use device=auto or cpu")
    if wanted == "auto" and problem:
        say(f"training on the CPU: {problem}")
    return torch.device("cpu" if problem else "cuda")


def _cuda_problem() -> str:
    """Why CUDA cannot be used, or nothing. A device that is listed may still fail at the first kernel."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    try:
        square = torch.ones(8, 8, device="cuda")
        (square @ square).sum().item()
    except RuntimeError as error:
        return f"CUDA fails: {str(error).splitlines()[0]}"
    return ""


def samples(images: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device) -> Samples:
    """Arrays as tensors on a device: one byte a pixel, so that MNIST takes 47 MB."""
    return Samples(torch.tensor(images, device=device), torch.tensor(labels, device=device))


def new_state(model: nn.Module, *, lr: float, updates: int, device: torch.device, amp: str) -> State:
    """Adam on a one-cycle schedule over a number of updates (not of micro-batches)."""
    if amp != "off":  # half precision is only faster than fp32 with the channels innermost
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not in its stub
    model = model.to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    return State(
        model=model,
        optimiser=optimiser,
        scheduler=OneCycleLR(optimiser, max_lr=lr, total_steps=updates, pct_start=_WARM_UP_RATIO),
        scaler=torch.amp.GradScaler(device.type, enabled=amp == "fp16"),
        device=device,
        amp=amp,
    )


def groups(count: int, batch_size: int, *, seed: int, epoch: int) -> Iterator[torch.Tensor]:
    """The indices of each update of an epoch, from seed and epoch alone; the last group may be smaller."""
    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))
    for first in range(0, count, batch_size):
        yield order[first : first + batch_size]


def update(state: State, data: Samples, *, group: torch.Tensor, micro: int) -> torch.Tensor:
    """One update from a group of samples in micro-batches. Returns the group's summed loss, on the device.

    loss = sum over the samples of the group / samples in the whole group. The mean of the micro-batches'
    means would weigh the samples of a smaller last one more.
    """
    state.model.train()
    state.optimiser.zero_grad(set_to_none=True)
    total = torch.zeros((), dtype=torch.float64, device=state.device)
    for first in range(0, len(group), micro):
        with phase("data"):
            index = group[first : first + micro].to(state.device)
            pixels, labels = data.pixels[index], data.labels[index]
        with phase("forward"):
            with state.autocast():
                logits = state.model(pixels)
            loss = _summed_loss(logits, labels) / len(group)
        with phase("backward"):
            state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        total += loss.detach()
    with phase("update"):
        _apply(state)
    return total * len(group)


def _apply(state: State) -> None:
    """Step the optimiser; step the schedule only if the scaler did not skip the step for an overflow."""
    scale = state.scaler.get_scale()
    state.scaler.step(state.optimiser)
    state.scaler.update()
    if state.scaler.get_scale() >= scale:
        state.scheduler.step()


def _summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy in fp32 at least, whatever the forward pass computed in."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(precise, labels, reduction="sum")


@torch.no_grad()
def evaluate(state: State, data: Samples) -> tuple[float, float]:
    """Mean loss and accuracy (0 to 1) over all samples."""
    state.model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=state.device)
    correct = torch.zeros((), dtype=torch.int64, device=state.device)
    with phase("evaluation"):
        for start in range(0, len(data), _EVALUATION_BATCH):
            labels = data.labels[start : start + _EVALUATION_BATCH]
            with state.autocast():
                logits = state.model(data.pixels[start : start + _EVALUATION_BATCH])
            loss += _summed_loss(logits, labels)
            correct += (logits.argmax(1) == labels).sum()
    return loss.item() / len(data), correct.item() / len(data)


def probe(data: Samples, *, micro: int, clock: Callable[[], float] = time.process_time) -> float:
    """Cost of a bf16 step over that of an fp32 step on this CPU, the median of 6 each, taken in turn.

    Measured, not assumed: without the instructions bf16 costs up to 8 times more. Nothing is kept.
    """
    cpu = torch.device("cpu")
    steps = _PROBE_WARM_UP + _PROBE_STEPS
    states = [new_state(LeNet(), lr=1e-3, updates=2 * steps, device=cpu, amp=amp) for amp in ("off", "bf16")]
    group = torch.arange(min(micro, len(data)))
    costs: list[list[float]] = [[], []]
    for _ in range(steps):
        for state, cost in zip(states, costs, strict=True):
            start = clock()
            update(state, data, group=group, micro=micro)
            cost.append(clock() - start)
    plain, half = (median(cost[_PROBE_WARM_UP:]) for cost in costs)
    return half / plain if plain > 0 else 1.0

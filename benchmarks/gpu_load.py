"""Work for a GPU, by torch: edges of load, and a training step in bf16. Needs torch with CUDA."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_meters import Meters

EDGES = 6
EDGE_S = 2.0
STEPS = 200
SYNCS = 200
_WIDTH = 4096


def why_not() -> str | None:
    """Why there is nothing to compute on; None: there is."""
    try:
        import torch
    except ImportError as error:
        return f"torch is not installed: {error}"
    return None if torch.cuda.is_available() else "torch finds no CUDA device"


@contextmanager
def load() -> Iterator[None]:
    """While entered, the GPU multiplies matrices as fast as it can."""
    over = threading.Event()
    ready = threading.Event()

    def work() -> None:
        import torch

        matrix = torch.randn(_WIDTH, _WIDTH, device="cuda", dtype=torch.bfloat16)
        while not over.is_set():
            for _ in range(20):
                matrix = torch.nn.functional.normalize(matrix @ matrix)
            torch.cuda.synchronize()
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(60)
    try:
        yield
    finally:
        over.set()
        thread.join()


def lag_ms(meters: Meters) -> dict[str, Any]:
    """Time from the start of a kernel until power is half-way from idle to load."""
    with load():
        time.sleep(EDGE_S)
        loaded_w = meters.power_w()
    found = []
    for _ in range(EDGES):
        time.sleep(EDGE_S)
        idle_w = meters.power_w()
        with load():  # it yields once the first kernels are done
            begin_s = time.monotonic()
            while meters.power_w() < (idle_w + loaded_w) / 2 and time.monotonic() - begin_s < EDGE_S:
                time.sleep(0.001)
            found.append(1000 * (time.monotonic() - begin_s))
    return {"idle_w": idle_w, "loaded_w": loaded_w, "lag_ms": found}


def sync_us() -> float:
    """What a synchronisation costs when nothing is waiting: microseconds."""
    import torch

    torch.cuda.synchronize()
    begin_s = time.perf_counter()
    for _ in range(SYNCS):
        torch.cuda.synchronize()
    return 1e6 * (time.perf_counter() - begin_s) / SYNCS


def step_seconds(around: Callable[[], Any], *, phases: bool, syncs: bool = False) -> float:
    """Seconds of a training step of a small network in bf16, within a block of `around()`."""
    import torch

    import mlflow_carbon

    model = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048) for _ in range(8))).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    data = torch.randn(512, 2048, device="cuda")

    def phase(name: str) -> Any:
        return mlflow_carbon.phase(name) if phases else nullcontext()

    def edge() -> None:
        if syncs:
            torch.cuda.synchronize()

    def step() -> None:
        with phase("forward"), torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(data).square().mean()
            edge()
        with phase("backward"):
            loss.backward()
            edge()
        with phase("update"):
            optimizer.step()
            optimizer.zero_grad()
            edge()

    for _ in range(20):
        step()
    torch.cuda.synchronize()
    with around():
        time.sleep(1.0)
        begin_s = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin_s) / STEPS


def overhead(rounds: int) -> dict[str, list[float]]:
    """Percent by which a step is slower: measured at 1 Hz and at 10 Hz, and with a synchronisation per phase."""
    import mlflow_carbon

    arms: dict[str, tuple[Callable[[], Any], bool, bool]] = {
        "none": (nullcontext, False, False),
        "1 Hz with phases": (lambda: mlflow_carbon.track(period_s=1.0, grid="annual"), True, False),
        "10 Hz with phases": (lambda: mlflow_carbon.track(period_s=0.1, grid="annual"), True, False),
        "a sync per phase, not measured": (nullcontext, False, True),
    }
    found: dict[str, list[float]] = {name: [] for name in arms}
    for index in range(rounds):
        for name in arms if index % 2 == 0 else reversed(list(arms)):
            around, phases, syncs = arms[name]
            found[name].append(step_seconds(around, phases=phases, syncs=syncs))
    base = median(found["none"])
    slower = {
        name: [100 * (a / b - 1) for a, b in zip(values, found["none"], strict=True)]
        for name, values in found.items()
        if name != "none"
    }
    return {"step_ms": [1000 * base], **slower}

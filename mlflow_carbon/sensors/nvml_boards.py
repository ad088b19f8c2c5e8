"""The GPUs of this machine as the NVIDIA driver lists them: boards, their MIG slices, their scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_carbon.sensors.contract import Absence, explain
from mlflow_carbon.sensors.nvml_ways import answers, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHECK", "Board", "Slice", "boards"]

CHECK = "check that `nvidia-smi` lists the GPU; after an update of the driver, reboot or reload it"

_POWER_AVERAGE = 185
_MODULE_SCOPE = 1
_SLICES = 7  # of an A100 or H100; an A30 has 4


class Slice(NamedTuple):
    """One MIG slice: what `CUDA_VISIBLE_DEVICES` may call it, and its compute slices."""

    names: tuple[str, ...]
    compute: int


class Board(NamedTuple):
    """One GPU of the machine, counted or not.

    Its number names it in what is stored: a UUID would tell on whose machine a run was.

    Attributes:
        number: Its place in NVML's order.
        handle: NVML's handle.
        uuid: Its identity.
        name: Product name.
        mig: Whether it is cut into MIG slices.
        slices: Those the driver lists.
        slices_max: How many compute slices the whole board has.
        is_module: Whether the driver tells the power of a module of GPU and CPU too (Grace).
    """

    number: int
    handle: Any
    uuid: str
    name: str
    mig: bool
    slices: tuple[Slice, ...]
    slices_max: int
    is_module: bool


def boards(library: Any) -> list[Board | Absence]:
    """Every GPU, or why it cannot be had."""
    return [_board(library, index) for index in range(ask(library, library.nvmlDeviceGetCount) or 0)]


def _board(library: Any, index: int) -> Board | Absence:
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
        uuid, name = library.nvmlDeviceGetUUID(handle), library.nvmlDeviceGetName(handle)
    except library.NVMLError as error:
        return Absence(sensor=f"nvml:{index}", reason=explain(error), remedy=CHECK)
    mode = ask(library, library.nvmlDeviceGetMigMode, handle)
    mig = mode is not None and bool(mode[0])
    most = ask(library, library.nvmlDeviceGetMaxMigDeviceCount, handle) if mig else None
    return Board(
        number=index,
        handle=handle,
        uuid=uuid,
        name=name,
        mig=mig,
        slices=tuple(_slices(library, handle, uuid, most or _SLICES)) if mig else (),
        slices_max=most or _SLICES,
        is_module=answers(library, handle, _POWER_AVERAGE, _MODULE_SCOPE),
    )


def _slices(library: Any, handle: Any, uuid: str, most: int) -> Iterator[Slice]:
    for index in range(most):
        part = ask(library, library.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if part is None:
            continue
        name = ask(library, library.nvmlDeviceGetUUID, part)
        attributes = ask(library, library.nvmlDeviceGetAttributes, part)
        if attributes is None:
            continue
        gpu_instance = ask(library, library.nvmlDeviceGetGpuInstanceId, part)
        compute_instance = ask(library, library.nvmlDeviceGetComputeInstanceId, part)
        older = f"MIG-{uuid}/{gpu_instance}/{compute_instance}"
        yield Slice(names=(*([name] if name else []), older), compute=attributes.computeInstanceSliceCount)

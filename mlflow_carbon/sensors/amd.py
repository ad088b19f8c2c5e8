"""AMD GPUs through `amdsmi` (extra `amd`, and ROCm's libamd_smi.so). Never run on hardware.

The energy counter is used where it agrees with the power at the start: on MI100 it has been found frozen
(ROCm/amdsmi issues 22 and 38). The second die of a MI250 tells neither: the first one's figure is of both.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality
from mlflow_carbon.sensors.contract import Absence, Found, Values, explain, take
from mlflow_carbon.sensors.cuda import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlflow_carbon.core.series import Sample
    from mlflow_carbon.sensors.contract import Clock, Site

__all__ = ["AmdSensor", "probe"]

_POWER_MAX_W = 2000.0
_AGREE = (0.1, 10.0)  # A look of 0.1 s tells a dead or mistaken counter, no more.
_LOOK_S = 0.1
_OFTEN_S = 0.1
_COUNTER = "amdsmi_get_energy_count"
_POWER = "amdsmi_get_power_info"
_UNTRIED = "; never run on hardware by the makers of this sensor"
_HIDE = "name GPUs by number or UUID in ROCR_VISIBLE_DEVICES, or unset it"
_INSTALL = 'install ROCm\'s amd-smi-lib, then pip install "mlflow-carbon[amd]"'


class _Gpu(NamedTuple):
    """One GPU as HIP counts it."""

    number: int
    handle: Any
    uuid: str
    name: str


class AmdSensor:
    """Reads the energy counter, or the power, of each GPU."""

    def __init__(
        self, library: Any, channels: tuple[Channel, ...], reads: tuple[Callable[[], Values], ...]
    ) -> None:
        self.channels = channels
        self._library = library
        self._reads = reads
        self._is_open = True

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """One reading per GPU."""
        errors = _errors(self._library)
        return tuple(
            take(channel.id, clock, read, errors=errors)
            for channel, read in zip(self.channels, self._reads, strict=True)
        )

    def close(self) -> None:
        """Give the library back."""
        if self._is_open:
            self._is_open = False
            _ask(self._library, self._library.amdsmi_shut_down)


def probe(site: Site, *, library: Any = None, pause: Callable[[float], None] = time.sleep) -> Found:
    """The AMD GPUs that ROCm shows to this process; says nothing on a machine without its driver.

    Args:
        site: Where to look; `ROCR_VISIBLE_DEVICES`, `HIP_VISIBLE_DEVICES`, `CUDA_VISIBLE_DEVICES` matter.
        library: The `amdsmi` module, or a fake of it; imported where not given.
        pause: Waits between the two looks at the counters.
    """
    if not (site.root / "dev/kfd").exists():
        return Found()
    try:
        library = library or _import_library()
        library.amdsmi_init()
    except Exception as error:  # noqa: BLE001 - without its C library the binding fails in various ways
        return Found(absences=(Absence(sensor="amd", reason=explain(error), remedy=_INSTALL),))
    gpus, problems = _shown(site, _listed(library))
    absences = [Absence(sensor="amd", reason=problem, remedy=_HIDE) for problem in problems]
    counts = _validated(library, gpus, pause)
    found: list[tuple[Channel, Callable[[], Values]]] = []
    for gpu in gpus:
        chosen = _choose(library, gpu, counts=gpu.number in counts, period_s=site.settings.period_s)
        if isinstance(chosen, Absence):
            absences.append(chosen)
        else:
            found.append(chosen)
    if not found:
        _ask(library, library.amdsmi_shut_down)
        return Found(absences=tuple(absences))
    channels, reads = zip(*found, strict=True)
    return Found(sensors=(AmdSensor(library, channels, reads),), absences=tuple(absences))


def _import_library() -> Any:
    """The binding. It prints where it does not find its C library, so that this is looked for first.

    Raises:
        OSError: If there is no C library.
        ImportError: If there is no binding.
    """
    rocm = Path(os.environ.get("ROCM_HOME") or os.environ.get("ROCM_PATH") or "/opt/rocm")
    try:
        ctypes.CDLL("libamd_smi.so")
    except OSError:
        ctypes.CDLL(str(rocm / "lib/libamd_smi.so"))
    import amdsmi

    return amdsmi


def _errors(library: Any) -> tuple[type[Exception], ...]:
    return (library.AmdSmiException, KeyError, TypeError, ValueError)


def _ask(library: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except _errors(library):
        return None


def _listed(library: Any) -> list[_Gpu]:
    """Every GPU, in HIP's order where the library tells it (6.4 and later), else in PCI order."""
    gpus = []
    for place, handle in enumerate(_ask(library, library.amdsmi_get_processor_handles) or []):
        asic = _ask(library, library.amdsmi_get_gpu_asic_info, handle) or {}
        numbers: dict[str, Any] = {}
        if hasattr(library, "amdsmi_get_gpu_enumeration_info"):
            numbers = _ask(library, library.amdsmi_get_gpu_enumeration_info, handle) or {}
        number = numbers.get("hip_id", place)
        gpus.append(
            _Gpu(
                number=number if isinstance(number, int) else place,
                handle=handle,
                uuid=str(numbers.get("hip_uuid", "")),
                name=str(asic.get("market_name") or "AMD GPU"),
            )
        )
    return sorted(gpus, key=lambda gpu: gpu.number)


def _shown(site: Site, gpus: list[_Gpu]) -> tuple[list[_Gpu], list[str]]:
    """The GPUs left after ROCr's variable, and after HIP's, which counts anew among those."""
    problems: list[str] = []
    for names in (("ROCR_VISIBLE_DEVICES",), ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")):
        name = next((n for n in names if n in site.env), None)
        if name is not None:
            shown = visible(site.env[name], [gpu.uuid for gpu in gpus], variable=name)
            gpus = [gpus[index] for index in shown.indices]
            problems += shown.problems
    return gpus, problems


def _validated(library: Any, gpus: Sequence[_Gpu], pause: Callable[[float], None]) -> set[int]:
    """The GPUs whose counter moves as their power says. Waits once, and only where there are counters."""
    first = {gpu.number: _look(library, gpu) for gpu in gpus}
    if not any(first.values()):
        return set()
    start_ns = time.monotonic_ns()
    pause(_LOOK_S)
    waited_s = max((time.monotonic_ns() - start_ns) / 1e9, _LOOK_S)
    agreed = set()
    for gpu in gpus:
        before, after = first[gpu.number], _look(library, gpu)
        if before is None or after is None:
            continue
        expected_uj = before[1] * 1000 * waited_s
        if expected_uj > 0 and _AGREE[0] <= (after[0] - before[0]) / expected_uj <= _AGREE[1]:
            agreed.add(gpu.number)
    return agreed


def _look(library: Any, gpu: _Gpu) -> tuple[int, int] | None:
    """Counter in microjoules and power in milliwatts, where both are told."""
    energy = _ask(library, _energy, library, gpu.handle)
    power = _ask(library, _power, library, gpu.handle)
    return (energy["energy_uj"], power["power_mw"]) if energy and power else None


def _choose(
    library: Any, gpu: _Gpu, *, counts: bool, period_s: float
) -> tuple[Channel, Callable[[], Values]] | Absence:
    read = partial(_energy if counts else _power, library, gpu.handle)
    if _ask(library, read) is None:
        return Absence(
            sensor=f"amd:{gpu.number}",
            reason=f"{gpu.name} tells neither energy nor power",
            remedy="none needed for the second die of an MI250: the first one's figure is of both; "
            "else check `amd-smi metric --power --energy`",
        )
    often = period_s <= _OFTEN_S
    low, high = (0.95, 1.05) if counts else (0.9, 1.1)  # nobody states the accuracy of its power
    source = _COUNTER if counts else f"{_POWER}; no energy counter that agrees with it"
    channel = Channel(
        id=f"amd:{gpu.number}",
        sensor="amd",
        device=gpu.name,
        component=Component.GPU,
        kind=Kind.COUNTER if counts else Kind.GAUGE,
        basis=Basis.MEASURED,
        quality=Quality.L3 if counts else Quality.L2 if often else Quality.L1,
        low_ratio=low,
        high_ratio=high,
        power_max_w=_POWER_MAX_W,
        source=source + _UNTRIED,
    )
    return channel, read


def _energy(library: Any, handle: Any) -> Values:
    """The counter: accumulator x resolution, in microjoules; before 6.1 the accumulator was called power."""
    told = library.amdsmi_get_energy_count(handle)
    accumulator = told["energy_accumulator"] if "energy_accumulator" in told else told["power"]
    return Values(energy_uj=int(int(accumulator) * float(told["counter_resolution"])))


def _power(library: Any, handle: Any) -> Values:
    """Power of the socket in watts: present, else mean; which are told depends on the generation."""
    told = library.amdsmi_get_power_info(handle)
    watts = _first_number(told.get(name) for name in _POWERS)
    return Values(power_mw=round(1000 * watts))


_POWERS = ("current_socket_power", "socket_power", "average_socket_power")


def _first_number(values: Iterable[Any]) -> float:
    for value in values:
        if isinstance(value, int | float) and 0 < value < math.inf:
            return float(value)
    raise ValueError("expected a power above 0 W, found none")

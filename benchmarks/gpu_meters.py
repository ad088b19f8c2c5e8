"""What a GPU's own meters do: how often they refresh, how long a call takes, whether they agree."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S = 0.0005
RATIO_POLL_S = 0.02
CALLS = 300


class Meters:
    """The calls of one GPU by the real binding.

    Args:
        library: The `pynvml` module.
        number: Number of the GPU.
    """

    def __init__(self, library: Any, number: int) -> None:
        self._nvml = library
        self._handle = library.nvmlDeviceGetHandleByIndex(number)
        self.name = str(library.nvmlDeviceGetName(self._handle))
        self.driver = str(library.nvmlSystemGetDriverVersion())

    def calls(self) -> dict[str, Callable[[], int]]:
        """The meters by name: energy in millijoules, power in milliwatts."""
        return {
            "energy counter": self.counter_mj,
            "power usage": lambda: int(self._nvml.nvmlDeviceGetPowerUsage(self._handle)),
            "field 185 (average)": lambda: self._field(185),
            "field 186 (instant)": lambda: self._field(186),
        }

    def counter_mj(self) -> int:
        """The energy counter."""
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def power_w(self) -> float:
        """The most instant power that it tells."""
        try:
            return self._field(186) / 1000
        except self._nvml.NVMLError:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000

    def survey(self, seconds: float) -> list[dict[str, Any]]:
        """Refresh and latency of each meter; `error` where it does not answer."""
        found = []
        for name, call in self.calls().items():
            try:
                call()
            except self._nvml.NVMLError as error:
                found.append({"meter": name, "error": str(error)})
                continue
            found.append({"meter": name, **latency(call), **refresh(call, seconds)})
        return found

    def buffer(self) -> dict[str, Any]:
        """The driver's own power samples: how many there are and how far apart."""
        try:
            _, samples = self._nvml.nvmlDeviceGetSamples(self._handle, self._nvml.NVML_TOTAL_POWER_SAMPLES, 0)
        except self._nvml.NVMLError as error:
            return {"error": str(error)}
        gaps = [(b.timeStamp - a.timeStamp) / 1000 for a, b in pairwise(samples)]
        return {"samples": len(samples), "spacing_ms": median(gaps) if gaps else None}

    def agreement(self, seconds: float) -> dict[str, Any]:
        """Energy by the counter over energy by polled power."""
        try:
            first_mj, begin_s = self._fresh_counter()
        except self._nvml.NVMLError as error:
            return {"error": str(error)}
        powers = []
        while time.monotonic() - begin_s < seconds:
            powers.append(self.power_w())
            time.sleep(RATIO_POLL_S)
        last_mj, end_s = self._fresh_counter()
        by_power_j = sum(powers) / len(powers) * (end_s - begin_s)
        by_counter_j = (last_mj - first_mj) / 1000
        return {
            "counter_j": by_counter_j,
            "power_j": by_power_j,
            "ratio": by_counter_j / by_power_j if by_power_j else None,
        }

    def _fresh_counter(self) -> tuple[int, float]:
        """The counter at the moment it changes, so that its refresh time is no error; waits a second at most."""
        seen, until_s = self.counter_mj(), time.monotonic() + 1.0
        while (now := self.counter_mj()) == seen and time.monotonic() < until_s:
            time.sleep(POLL_S)
        return now, time.monotonic()

    def _field(self, field: int) -> int:
        (value,) = self._nvml.nvmlDeviceGetFieldValues(self._handle, [field])
        if value.nvmlReturn:
            raise self._nvml.NVMLError(value.nvmlReturn)
        return int(value.value.uiVal)


def latency(call: Callable[[], Any]) -> dict[str, float]:
    """Microseconds of a call: the median, and what 99 of 100 do not exceed."""
    times_us = []
    for _ in range(CALLS):
        begin_ns = time.perf_counter_ns()
        call()
        times_us.append((time.perf_counter_ns() - begin_ns) / 1000)
    times_us.sort()
    return {"latency_us": median(times_us), "latency_p99_us": times_us[int(0.99 * CALLS)]}


def refresh(call: Callable[[], int], seconds: float) -> dict[str, Any]:
    """How often a value changes, by polling; a constant value shows no refresh."""
    changes_s, seen, until_s = [], call(), time.monotonic() + seconds
    while (now_s := time.monotonic()) < until_s:
        value = call()
        if value != seen:
            changes_s.append(now_s)
            seen = value
        time.sleep(POLL_S)
    gaps_ms = [1000 * (b - a) for a, b in pairwise(changes_s)]
    return {"changes": len(changes_s), "refresh_ms": median(gaps_ms) if gaps_ms else None}

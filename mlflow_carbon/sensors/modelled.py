"""CPU and memory power where there is no counter: CodeCarbon's table and formulas, labelled as a model.

Two sensors, so that a measured CPU replaces the one and measured memory the other. Ranges: decision 6.
"""

from __future__ import annotations

import platform
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mlflow_carbon.core.power_model import WATTS_PER_THREAD, cpu_power_w, estimate_dimms, ram_power_w
from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality, Sample
from mlflow_carbon.cpu_time import ProcStat, machine_times
from mlflow_carbon.sensors.contract import Absence, Found, Values, take
from mlflow_carbon.sensors.cpu_table import match, read_table
from mlflow_carbon.sensors.cpuinfo import CpuInfo, read_cpuinfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow_carbon.cpu_time import Baseline, BusyTime
    from mlflow_carbon.sensors.contract import Clock, Site
    from mlflow_carbon.sensors.cpu_table import CpuTable

__all__ = ["CpuModel", "RamModel", "probe_cpu", "probe_ram"]

_KNOWN_CPU = (0.6, 1.4)
_UNKNOWN_CPU = (0.5, 3.0)
_RAM = (0.3, 1.5)

_BYTES_PER_GB = 1024**3  # CodeCarbon says gigabyte and means this
_PPM = 1_000_000
_LOOK_NS = 900_000_000  # a beat of one second may come a little early
_LONGEST_NS = 2_000_000_000  # nobody listened meanwhile: that load says nothing about a run that begins
_FRESH_NS = 10_000_000_000  # finding the sensors may take so long


class _Design(NamedTuple):
    """Design power of the machine's CPUs, its 95 % range as factors, and where it comes from."""

    tdp_w: float
    range_ratio: tuple[float, float]
    source: str


class CpuModel:
    """Power of the CPUs from their design power and their load.

    The load is that since the previous reading, but over a second at least: power grows with its cube, so
    that shorter looks, which see a half busy CPU as idle now and full then, would add up to more energy.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        tdp_w: float,
        read_times: Callable[[], BusyTime],
        baseline: Baseline | None = None,
    ) -> None:
        self.channels = (channel,)
        self._tdp_w = tdp_w
        self._read_times = read_times
        self._baseline = baseline
        self._looks: deque[tuple[int, BusyTime]] = deque()
        self._last = Values()

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """Mean power since the previous reading; the first one has none without a fresh baseline."""
        channel = self.channels[0].id
        first = _fresh(self._baseline, clock, channel)
        if self._baseline is not None and first:
            self._looks.append((self._baseline.t_mono_ns, self._baseline.times))
        self._baseline = None
        return (*first, take(channel, clock, partial(self._mean, clock), errors=(OSError, ValueError)))

    def close(self) -> None:
        """Close what the times are read from."""
        if isinstance(self._read_times, ProcStat):
            self._read_times.close()

    def _mean(self, clock: Clock) -> Values:
        now, now_ns = self._read_times(), clock.monotonic_ns()
        before = self._look_before(now_ns)
        self._looks.append((now_ns, now))
        # Within one tick of the system's clock (10 ms) no time has passed: the last mean stands.
        if before is not None and now.total_s > before.total_s:
            load = min(max((now.busy_s - before.busy_s) / (now.total_s - before.total_s), 0.0), 1.0)
            power_mw = round(1000 * cpu_power_w(self._tdp_w, load))
            self._last = Values(power_mw=power_mw, util_ppm=round(load * _PPM))
        return self._last

    def _look_before(self, now_ns: int) -> BusyTime | None:
        """The latest look that is old enough, without one from before a pause; else the oldest."""
        looks = self._looks
        while len(looks) > 1 and (now_ns - looks[1][0] >= _LOOK_NS or now_ns - looks[0][0] > _LONGEST_NS):
            looks.popleft()
        return looks[0][1] if looks else None


class RamModel:
    """Constant power of the memory."""

    def __init__(self, channel: Channel, power_w: float, baseline: Baseline | None = None) -> None:
        self.channels = (channel,)
        self._values = Values(power_mw=round(1000 * power_w))
        self._baseline = baseline

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """The same power each time."""
        channel = self.channels[0].id
        first = _fresh(self._baseline, clock, channel)
        self._baseline = None
        return (*first, take(channel, clock, lambda: self._values, errors=()))

    def close(self) -> None:
        """Nothing is held."""


def _fresh(baseline: Baseline | None, clock: Clock, channel: str) -> tuple[Sample, ...]:
    """A reading without a value where the first mean begins; none if that was long ago."""
    if baseline is None or not 0 < clock.monotonic_ns() - baseline.t_mono_ns <= _FRESH_NS:
        return ()
    return (Sample(channel=channel, t_mono_ns=baseline.t_mono_ns),)


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def probe_cpu(site: Site, *, read_times: Callable[[], BusyTime] | None = None) -> Found:
    """The model of the CPUs' power."""
    info, table = read_cpuinfo(site.root), read_table()
    design = _given(site.settings.cpu_power_w) or _tabled(info, table) or _guessed(info)
    channel = _channel(
        "model:cpu",
        device=info.model or "CPU",
        component=Component.CPU,
        range_ratio=design.range_ratio,
        source="; ".join((design.source, "power = TDP x (0.1 + 0.9 load^3)", *_caveats(info, site.root))),
    )
    sensor = CpuModel(
        channel,
        tdp_w=design.tdp_w,
        read_times=read_times or machine_times(site.root),
        baseline=site.baseline,
    )
    return Found(sensors=(sensor,), absences=() if table else (_NO_TABLE,))


def probe_ram(site: Site, *, read_bytes: Callable[[], int] = _memory_bytes, machine: str = "") -> Found:
    """The model of the memory's power."""
    memory_gb = read_bytes() / _BYTES_PER_GB
    power_w, source = site.settings.ram_power_w, "ram_power_w given, still a model"
    if power_w is None:
        arm = any(name in (machine or platform.machine()).lower() for name in ("arm", "aarch"))
        power_w = ram_power_w(memory_gb, arm=arm)
        source = f"CodeCarbon's formula: {memory_gb:.1f} GiB in about {estimate_dimms(memory_gb)} modules"
    channel = _channel(
        "model:ram",
        device=f"{memory_gb:.1f} GiB memory",
        component=Component.DRAM,
        range_ratio=_RAM,
        source=f"{source}: {power_w:g} W",
    )
    return Found(sensors=(RamModel(channel, power_w, site.baseline),))


def _channel(
    channel_id: str, *, device: str, component: Component, range_ratio: tuple[float, float], source: str
) -> Channel:
    return Channel(
        id=channel_id,
        sensor="model",
        device=device,
        component=component,
        kind=Kind.MEAN,
        basis=Basis.MODELLED,
        quality=Quality.L0,
        low_ratio=range_ratio[0],
        high_ratio=range_ratio[1],
        source=source,
    )


def _given(tdp_w: float | None) -> _Design | None:
    if tdp_w is None:
        return None
    return _Design(tdp_w, _KNOWN_CPU, f"cpu_power_w given: TDP {tdp_w:g} W, still a model")


def _tabled(info: CpuInfo, table: CpuTable | None) -> _Design | None:
    if table is None or not info.model:
        return None
    name = match(info.model, tuple(table.tdp_w))
    tdp_w = table.tdp_w[name] if name else None
    if not tdp_w:
        return None
    packages = f" x {info.sockets} sockets" if info.sockets > 1 else ""
    return _Design(tdp_w * info.sockets, _KNOWN_CPU, f'{table.origin}: "{name}" {tdp_w:g} W{packages}')


def _guessed(info: CpuInfo) -> _Design:
    source = f'unknown CPU "{info.model}": {WATTS_PER_THREAD} W x {info.threads} threads'
    return _Design(float(WATTS_PER_THREAD * info.threads), _UNKNOWN_CPU, source)


def _caveats(info: CpuInfo, root: Path) -> tuple[str, ...]:
    virtual = f"virtual machine: load and CPU are those of the guest ({info.threads} threads)"
    is_container = (root / ".dockerenv").exists() or (root / "run/.containerenv").exists()
    container = ("container: load is that of the whole host",) if is_container else ()
    return ((virtual,) if info.is_virtual else ()) + container


_NO_TABLE = Absence(
    sensor="model:cpu",
    reason="CodeCarbon's table of CPUs was not found, so the design power is a guess from the threads",
    remedy='pip install "codecarbon>=3.3.2,<3.4"',
)

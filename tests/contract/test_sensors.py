"""What every sensor promises, checked over the table of probes with and without hardware."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import pytest

from mlflow_carbon.core.intervals import integrate
from mlflow_carbon.core.series import Basis, Kind, Quality
from mlflow_carbon.sensors import (
    COUNTERS,
    METERS,
    MODELS,
    Lazily,
    amd,
    apple,
    host_facts,
    hwmon,
    ipmi,
    nvml,
    wall_meter,
)
from tests.sensor_fakes import (
    DCMI,
    FakeAmd,
    FakeAmdGpu,
    FakeApple,
    FakeGpu,
    FakeNvml,
    Polls,
    VirtualClock,
    add_cpuinfo,
    add_hwmon,
    add_zone,
    site,
)

PROBES = [
    getattr(import_module(f"mlflow_carbon.sensors.{probe.module}"), probe.name)
    for probe in (*COUNTERS, *METERS, *MODELS.values())
    if isinstance(probe, Lazily)
]
VALUE_OF = {Kind.COUNTER: "energy_uj", Kind.GAUGE: "power_mw", Kind.MEAN: "power_mw"}


def _name(probe):
    return f"{probe.__module__.rpartition('.')[2]}.{probe.__name__}"


@pytest.fixture
def equipped(tmp_path):
    """A machine with two GPUs, one of them without a counter, counters of package and memory, and node meters."""
    add_cpuinfo(tmp_path, "AMD EPYC 7763 64-Core Processor")
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    add_zone(tmp_path, "intel-rapl:0:0", "dram")
    add_hwmon(tmp_path, 0, "power_meter", {"power1_average": 231_500_000})
    (tmp_path / "proc/net").mkdir()
    (tmp_path / "proc/net/dev").write_text("  eth0: 10 0 0 0 0 0 0 0 20 0 0 0 0 0 0 0\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ipmi0").touch()
    (tmp_path / "dev/kfd").touch()
    (tmp_path / "meter.csv").write_text("time,power_w\n0.00000002,100\n")
    return site(tmp_path, wall_meter=str(tmp_path / "meter.csv"))


FAKES: dict[Any, dict[str, Any]] = {
    nvml.probe: {"library": FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b", energy_mj=None)])},
    amd.probe: {"library": FakeAmd([FakeAmdGpu(), FakeAmdGpu(step=0)]), "pause": lambda _: None},
    apple.probe: {"library": FakeApple({"cpu_total_mj": 0, "gpu_mj": 0, "dram_mj": 0})},
    hwmon.probe: {"start": Polls().start},
    ipmi.probe: {"start": Polls().start, "run": lambda: DCMI},
    wall_meter.probe: {"start": Polls().start},
}


EXTRA: set[Any] = {amd.probe, apple.probe, host_facts.probe, hwmon.probe, ipmi.probe, wall_meter.probe}


@pytest.fixture(params=PROBES, ids=_name)
def sensors(request, equipped):
    """The sensors of one probe on the equipped machine."""
    probe = request.param
    found = partial(probe, **FAKES.get(probe, {}))(equipped)
    assert found.sensors or found.observers, "the equipped machine has something for every probe"
    yield found.sensors
    for sensor in found.sensors:
        sensor.close()


@pytest.mark.parametrize("probe", PROBES, ids=_name)
def test_bare_machine_gives_a_sensor_or_a_reason(probe, tmp_path):
    """On a machine with nothing a probe explains itself, in words that can be acted on.

    What is extra on any machine, or would be on another kind of machine, needs no explanation.
    """
    found = probe(site(tmp_path, env={"CUDA_VISIBLE_DEVICES": ""}))
    assert found.sensors or found.absences or probe in EXTRA
    for absence in found.absences:
        assert absence.sensor
        assert absence.reason
        assert absence.remedy


def test_channels_are_labelled_and_their_ids_are_unique(sensors):
    """Every channel has an id of its own, a source, a range, and a level that fits its basis."""
    channels = [channel for sensor in sensors for channel in sensor.channels]
    assert len({channel.id for channel in channels}) == len(channels)
    for channel in channels:
        assert channel.id.startswith(f"{channel.sensor}:")
        assert channel.source
        assert channel.device
        assert channel.low_ratio < 1 < channel.high_ratio
        assert (channel.quality is Quality.L0) == (channel.basis is Basis.MODELLED)


def test_readings_carry_the_value_of_their_kind(sensors):
    """A reading belongs to its channel, has a time, and only the value that its kind says, or none at first."""
    for sensor in sensors:
        samples = sensor.read(VirtualClock(now_ns=10))
        assert [sample.channel for sample in samples] == [channel.id for channel in sensor.channels]
        for channel, sample in zip(sensor.channels, samples, strict=True):
            assert sample.error is None
            assert sample.t_mono_ns > 10
            assert sample.read_ns > 0
            values = {name for name in ("energy_uj", "power_mw") if getattr(sample, name) is not None}
            assert values <= {VALUE_OF[channel.kind]}
            assert values or channel.kind is Kind.MEAN


def test_readings_integrate_to_energy_that_never_falls(sensors):
    """Time goes on from reading to reading, counters never fall, and no interval has negative energy."""
    clock = VirtualClock(step_ns=500_000_000)
    readings = [sample for _ in range(3) for sensor in sensors for sample in sensor.read(clock)]
    for channel in (channel for sensor in sensors for channel in sensor.channels):
        own = [sample for sample in readings if sample.channel == channel.id]
        assert [s.t_mono_ns for s in own] == sorted({s.t_mono_ns for s in own})
        if channel.kind is Kind.COUNTER:
            values = [s.energy_uj or 0 for s in own]
            assert values == sorted(values)
        assert all((part.energy_uj or 0) >= 0 for part in integrate(channel, own))


def test_closing_twice_is_safe(sensors):
    """A sensor may be closed twice."""
    for sensor in sensors:
        sensor.close()
        sensor.close()


@pytest.mark.parametrize("probe", PROBES, ids=_name)
def test_what_is_observed_has_a_name_and_a_number(probe, equipped):
    """Beside power: names of source and unit, whole or broken numbers, and never an exception."""
    found = partial(probe, **FAKES.get(probe, {}))(equipped)
    for observer in found.observers:
        for name, value in observer.observe().items():
            assert name.count("/") == 1
            assert isinstance(value, float)
        observer.close()
        observer.close()
    for sensor in found.sensors:
        sensor.close()

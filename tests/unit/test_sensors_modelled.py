"""Modelled CPU and memory power, from fake CPU times, sizes and CPU descriptions."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.energy import Ledger
from mlflow_carbon.core.series import Basis, Component, Kind, Quality
from mlflow_carbon.cpu_time import Baseline, BusyTime, busy_time
from mlflow_carbon.sensors.modelled import probe_cpu, probe_ram
from tests.sensor_fakes import VirtualClock, add_cpuinfo, site

GB = 1024**3


class MacTimes(NamedTuple):
    """The fields of `psutil.cpu_times()` on a Mac."""

    user: float
    nice: float
    system: float
    idle: float


class LinuxTimes(NamedTuple):
    """The fields of `psutil.cpu_times()` on Linux."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float
    guest: float
    guest_nice: float


def _cpu(times, root, **settings):
    """The CPU model over given busy and total seconds; an exception among them is raised."""
    readings = iter(times)

    def read_times():
        reading = next(readings)
        if isinstance(reading, Exception):
            raise reading
        return BusyTime(*reading)

    (sensor,) = probe_cpu(site(root, **settings), read_times=read_times).sensors
    return sensor


def _powers(sensor, count, *, every_s=1.0):
    times = [round(i * every_s * 1e9) for i in range(count)]
    return [sensor.read(VirtualClock(now_ns=t, step_ns=0))[0].power_mw for t in times]


def test_power_is_the_mean_since_the_previous_reading(tmp_path):
    """Half busy between two readings is 100 x (0.1 + 0.9 x 0.125) = 21.25 W; the first reading has none."""
    sensor = _cpu([(10, 100), (11, 102), (11, 104), (13, 106)], tmp_path, cpu_power_w=100.0)
    assert _powers(sensor, 4) == [None, 21_250, 10_000, 100_000]


def test_first_reading_is_no_error_and_the_load_is_recorded(tmp_path):
    """The baseline is a good reading without a value; the next one carries the load."""
    sensor = _cpu([(0, 0), (1, 4)], tmp_path, cpu_power_w=100.0)
    first, second = sensor.read(VirtualClock())[0], sensor.read(VirtualClock())[0]
    assert (first.power_mw, first.util_ppm, first.error) == (None, None, None)
    assert second.util_ppm == 250_000


def test_a_baseline_gives_the_first_reading_a_mean(tmp_path):
    """Measuring began at 1 s with 10 of 20 s busy; at 3 s it is 12 of 24: half busy since then, 21.25 W."""
    baseline = Baseline(t_mono_ns=10**9, times=BusyTime(busy_s=10, total_s=20))
    place = replace(site(tmp_path, cpu_power_w=100.0, ram_power_w=5.0), baseline=baseline)
    (cpu,) = probe_cpu(place, read_times=lambda: BusyTime(12, 24)).sensors
    (ram,) = probe_ram(place).sensors
    clock = VirtualClock(now_ns=3 * 10**9, step_ns=0)
    for sensor, power_mw in ((cpu, 21_250), (ram, 5000)):
        first, now = sensor.read(clock)
        assert (first.t_mono_ns, first.power_mw, first.error) == (10**9, None, None)
        assert (now.t_mono_ns, now.power_mw) == (3 * 10**9, power_mw)
        assert len(sensor.read(clock)) == 1


def test_an_old_baseline_is_left_out(tmp_path):
    """Sensors that waited for their first run for a minute do not spread that minute's load over its start."""
    baseline = Baseline(t_mono_ns=0, times=BusyTime(busy_s=0, total_s=0))
    place = replace(site(tmp_path, cpu_power_w=100.0), baseline=baseline)
    (sensor,) = probe_cpu(place, read_times=lambda: BusyTime(12, 24)).sensors
    (only,) = sensor.read(VirtualClock(now_ns=60 * 10**9))
    assert only.power_mw is None


def test_within_one_tick_the_last_mean_stands(tmp_path):
    """Two readings with no CPU time between them repeat the power instead of inventing a load of 0."""
    sensor = _cpu([(0, 0), (0, 0), (2, 2), (2, 2), (2, 4)], tmp_path, cpu_power_w=100.0)
    assert _powers(sensor, 5) == [None, None, 100_000, 100_000, 10_000]


def test_short_looks_do_not_change_the_power_of_a_load(tmp_path):
    """A CPU that is busy every other 50 ms is half busy, 21.25 W, whether it is read once a second or 20 times.

    Read by read it would be 100 W and 10 W in turn: 55 W.
    """
    times = [(0.05 * ((i + 1) // 2), 0.05 * i) for i in range(101)]
    powers = _powers(_cpu(times, tmp_path, cpu_power_w=100.0), len(times), every_s=0.05)
    settled = powers[20:]
    assert sum(settled) / len(settled) == pytest.approx(21_250, rel=0.05)
    assert max(settled) < 30_000


def test_a_pause_says_nothing_about_what_comes_after(tmp_path):
    """After an idle hour in which nobody listened, a busy run is busy from its second reading on."""
    sensor = _cpu([(0, 0), (0, 3600), (0.1, 3600.1)], tmp_path, cpu_power_w=100.0)
    clocks = [VirtualClock(now_ns=round(s * 1e9), step_ns=0) for s in (0, 3600, 3600.1)]
    assert [sensor.read(clock)[0].power_mw for clock in clocks] == [None, 10_000, 100_000]


def test_what_was_before_a_short_run_does_not_count_into_it(tmp_path):
    """Nine idle seconds before a run, then 0.6 s at full load: 100 W from the second reading on."""
    sensor = _cpu([(0, 0), (0, 9), (0.6, 9.6)], tmp_path, cpu_power_w=100.0)
    clocks = [VirtualClock(now_ns=round(s * 1e9), step_ns=0) for s in (0, 9, 9.6)]
    assert [sensor.read(clock)[0].power_mw for clock in clocks] == [None, 10_000, 100_000]


def test_counters_that_go_back_stay_in_range(tmp_path):
    """Idle time may fall by a tick; the load is then full, never more, and never below nothing."""
    sensor = _cpu([(10, 20), (13, 22), (12, 24)], tmp_path, cpu_power_w=100.0)
    assert _powers(sensor, 3) == [None, 100_000, 10_000]


def test_failed_read_is_an_error_and_the_next_mean_covers_the_gap(tmp_path):
    """After a failure the mean runs from the last good reading, as the ledger books it."""
    sensor = _cpu([(0, 0), OSError("gone"), (2, 4)], tmp_path, cpu_power_w=100.0)
    clocks = (VirtualClock(now_ns=second * 10**9, step_ns=0) for second in range(3))
    _, failed, after = (sensor.read(clock)[0] for clock in clocks)
    assert (failed.error, failed.power_mw) == ("OSError: gone", None)
    assert after.power_mw == 21_250


def test_energy_of_a_known_load(tmp_path):
    """10 s idle at 10 W and 10 s busy at 100 W are 1100 J."""
    seconds = [(0, 2 * s) for s in range(11)] + [(2 * s, 20 + 2 * s) for s in range(1, 11)]
    sensor = _cpu(seconds, tmp_path, cpu_power_w=100.0)
    ledger = Ledger(sensor.channels, start_ns=0, wall_offset_ns=0)
    for second in range(21):
        ledger.add(*sensor.read(VirtualClock(now_ns=second * 1_000_000_000, step_ns=0)))
    assert ledger.series(20_000_000_000).energy_uj() == 1_100_000_000


def test_known_cpu_takes_its_row(tmp_path):
    """A CPU of the table takes its design power, within 40 %, and names package, file and row."""
    add_cpuinfo(tmp_path, "AMD EPYC 7763 64-Core Processor", threads=4)
    sensor = _cpu([(0, 0), (1, 1)], tmp_path)
    (channel,) = sensor.channels
    assert (channel.id, channel.sensor, channel.component) == ("model:cpu", "model", Component.CPU)
    assert (channel.kind, channel.basis, channel.quality) == (Kind.MEAN, Basis.MODELLED, Quality.L0)
    assert (channel.low_ratio, channel.high_ratio) == (0.6, 1.4)
    assert channel.device == "AMD EPYC 7763 64-Core Processor"
    assert channel.source.startswith(
        f'codecarbon {version("codecarbon")} cpu_power.csv: "AMD EPYC 7763" 280 W;'
    )
    assert _powers(sensor, 2) == [None, 280_000]


def test_two_sockets_take_twice_the_row(tmp_path):
    """The row is of one package: two sockets are 2 x 280 W."""
    add_cpuinfo(tmp_path, "AMD EPYC 7763 64-Core Processor", threads=4, sockets=2)
    sensor = _cpu([(0, 0), (1, 1)], tmp_path)
    assert "280 W x 2 sockets" in sensor.channels[0].source
    assert _powers(sensor, 2) == [None, 560_000]


@pytest.mark.parametrize("model", ["AMD EPYC", "Intel Celeron 1000A"])
def test_unknown_cpu_is_four_watts_a_thread(tmp_path, model):
    """A CPU that fits no row, or a damaged one, is 4 W a thread, from half to three times that."""
    add_cpuinfo(tmp_path, model, threads=2)
    sensor = _cpu([(0, 0), (1, 1)], tmp_path)
    (channel,) = sensor.channels
    assert channel.source.startswith(f'unknown CPU "{model}": 4 W x 2 threads;')
    assert (channel.low_ratio, channel.high_ratio) == (0.5, 3.0)
    assert _powers(sensor, 2) == [None, 8_000]


def test_given_power_is_still_a_model(tmp_path):
    """A given design power replaces the table's; the channel stays modelled and says so."""
    add_cpuinfo(tmp_path, "AMD EPYC 7763 64-Core Processor")
    (channel,) = _cpu([(0, 0)], tmp_path, cpu_power_w=65.0).channels
    assert channel.source.startswith("cpu_power_w given: TDP 65 W, still a model;")
    assert channel.basis is Basis.MODELLED


def test_virtual_machine_and_container_are_caveats(tmp_path):
    """The source says what a guest and a container cannot know."""
    add_cpuinfo(tmp_path, "AMD EPYC", flags="hypervisor")
    (tmp_path / ".dockerenv").touch()
    (channel,) = _cpu([(0, 0)], tmp_path).channels
    assert "virtual machine" in channel.source
    assert "container" in channel.source


def test_memory_by_the_formula():
    """24 GB are four modules of 5 W, or 1.5 W beside an ARM CPU, from 0.3 to 1.5 times that."""
    (sensor,) = probe_ram(site(), read_bytes=lambda: 24 * GB, machine="x86_64").sensors
    (channel,) = sensor.channels
    assert (channel.id, channel.component, channel.quality) == ("model:ram", Component.DRAM, Quality.L0)
    assert (channel.low_ratio, channel.high_ratio) == (0.3, 1.5)
    assert channel.source == "CodeCarbon's formula: 24.0 GiB in about 4 modules: 20 W"
    assert [sample.power_mw for _ in range(2) for sample in sensor.read(VirtualClock())] == [20_000, 20_000]
    (arm,) = probe_ram(site(), read_bytes=lambda: 24 * GB, machine="aarch64").sensors
    assert arm.read(VirtualClock())[0].power_mw == 6_000


def test_given_memory_power_is_still_a_model():
    """A given memory power replaces the formula; the channel stays modelled and says so."""
    (sensor,) = probe_ram(site(ram_power_w=7.5), read_bytes=lambda: 24 * GB).sensors
    assert sensor.channels[0].source == "ram_power_w given, still a model: 7.5 W"
    assert sensor.channels[0].basis is Basis.MODELLED
    assert sensor.read(VirtualClock())[0].power_mw == 7_500


def test_guest_time_is_not_counted_twice_and_disk_waits_are_idle():
    """Of 100 s with 5 guest, 60 are idle and 10 wait for a disk, so 25 of 95 are busy."""
    times = LinuxTimes(15, 0, 5, 60, 10, 1, 1, 3, 5, 0)
    assert busy_time(times) == BusyTime(busy_s=25, total_s=95)
    assert busy_time(MacTimes(10, 0, 5, 85)) == BusyTime(busy_s=15, total_s=100)


@given(st.lists(st.floats(0, 1e7), min_size=10, max_size=10))
def test_busy_time_equals_codecarbon(seconds):
    """Busy and total time are those of CodeCarbon's load meter."""
    from codecarbon.external.hardware import SystemCPULoadMeter

    times = LinuxTimes(*seconds)
    assert busy_time(times).total_s == pytest.approx(
        SystemCPULoadMeter._total_time(times), rel=1e-12, abs=1e-6
    )
    assert busy_time(times).busy_s == pytest.approx(SystemCPULoadMeter._busy_time(times), rel=1e-12, abs=1e-6)


def test_this_machine_is_read_through_psutil():
    """The defaults read this machine: its load lies between 0 and 1 and its memory has a size."""
    (cpu,) = probe_cpu(site()).sensors
    (ram,) = probe_ram(site()).sensors
    assert cpu.read(VirtualClock())[0].error is None
    later = cpu.read(VirtualClock())[0]
    assert later.error is None
    assert 0 <= (later.util_ppm or 0) <= 1_000_000
    assert (ram.read(VirtualClock())[0].power_mw or 0) >= 3_000

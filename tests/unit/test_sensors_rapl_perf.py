"""RAPL through perf events: sysfs in a temporary directory, pipes in place of events.

The system call itself has been made on a virtual machine, whose only counter stands at 0; never on hardware.
"""

from __future__ import annotations

import errno
import os
import struct

import pytest

from mlflow_carbon.core.series import Component, Kind, Quality
from mlflow_carbon.sensors import rapl
from mlflow_carbon.sensors.rapl_perf import open_event
from tests.sensor_fakes import VirtualClock, add_cpuinfo, add_pmu, add_zone, site


class Kernel:
    """Opens a pipe for each event and writes counts into it; each read takes one, as the kernel gives them."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []
        self._ends: list[int] = []

    def open(self, pmu: int, config: int, cpu: int) -> int:
        self.asked.append((pmu, config, cpu))
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._ends.append(writing)
        return reading

    def count(self, event: int, count: int) -> None:
        os.write(self._ends[event], struct.pack("=Q", count))


def _denied(path, flags):
    raise PermissionError(13, "Permission denied", str(path))


def test_events_stand_in_for_closed_powercap_files(tmp_path):
    """Two packages and their memory are opened on the CPUs of the mask; the closed files need no remedy any more."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    add_pmu(tmp_path, {"energy-pkg": 2, "energy-ram": 3, "energy-psys": 5}, cpus="0,28")
    kernel = Kernel()
    found = rapl.probe(site(tmp_path), open_file=_denied, open_event=kernel.open)
    assert kernel.asked == [(18, 2, 0), (18, 2, 28), (18, 3, 0), (18, 3, 28), (18, 5, 0)]
    channels = found.sensors[0].channels
    assert [c.id for c in channels] == [
        "rapl:package-0",
        "rapl:package-1",
        "rapl:package-0-dram",
        "rapl:package-1-dram",
        "rapl:psys",
    ]
    assert {c.component for c in channels} == {Component.CPU, Component.DRAM, Component.NODE}
    assert {(c.kind, c.quality, c.range_uj) for c in channels} == {(Kind.COUNTER, Quality.L3, None)}
    assert channels[1].source == "perf event power/energy-pkg/ of CPU 28"
    assert found.absences == ()
    found.sensors[0].close()


def test_counts_are_scaled_to_microjoules(tmp_path):
    """2**32 counts of 2**-32 J are 1 J; an event that has nothing to say is an error and no value."""
    add_pmu(tmp_path, {"energy-pkg": 2}, cpus="0")
    kernel = Kernel()
    (sensor,) = rapl.probe(site(tmp_path), open_event=kernel.open).sensors
    kernel.count(0, 5 * 2**31)
    assert sensor.read(VirtualClock())[0].energy_uj == 2_500_000
    (failed,) = sensor.read(VirtualClock())
    assert (failed.energy_uj, failed.error is None) == (None, False)
    sensor.close()


def test_a_platform_without_a_package_is_not_believed(tmp_path):
    """Virtual machines list `psys` alone, and it stands at 0: seen on a KVM guest of a cloud, by the real call."""
    add_cpuinfo(tmp_path, "A CPU", flags="hypervisor")
    add_pmu(tmp_path, {"energy-psys": 5}, cpus="0")
    opened = []

    def opener(pmu, config, cpu):
        opened.append(os.open(tmp_path, os.O_RDONLY))
        return opened[-1]

    found = rapl.probe(site(tmp_path), open_event=opener)
    assert found.sensors == ()
    assert "virtual machine" in found.absences[0].reason
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_powercap_that_can_be_read_needs_no_events(tmp_path):
    """Where powercap has the packages no event is opened."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    add_pmu(tmp_path, {"energy-pkg": 2}, cpus="0")
    kernel = Kernel()
    found = rapl.probe(site(tmp_path), open_event=kernel.open)
    assert kernel.asked == []
    found.sensors[0].close()


def test_a_refusal_comes_with_both_remedies_and_leaves_nothing_open(tmp_path):
    """Files and events refused: one command for each, and the first event, which did open, is closed."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    add_pmu(tmp_path, {"energy-pkg": 2}, cpus="0-1")
    opened: list[int] = []

    def refuse_second(pmu, config, cpu):
        if opened:
            raise PermissionError(errno.EACCES, "perf_event_open: Permission denied")
        opened.append(os.open(tmp_path, os.O_RDONLY))
        return opened[0]

    found = rapl.probe(site(tmp_path), open_file=_denied, open_event=refuse_second)
    assert found.sensors == ()
    remedies = [absence.remedy for absence in found.absences]
    assert any("chmod a+r" in remedy for remedy in remedies)
    assert any("kernel.perf_event_paranoid=0" in remedy and "CAP_PERFMON" in remedy for remedy in remedies)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_strange_sysfs_is_a_reason(tmp_path):
    """An event in another notation is explained, not guessed."""
    add_pmu(tmp_path, {"energy-pkg": 2}, cpus="0")
    (tmp_path / "sys/bus/event_source/devices/power/events/energy-pkg").write_text("umask=0x02\n")
    found = rapl.probe(site(tmp_path), open_event=Kernel().open)
    assert "expected event=0x.. in sysfs, got 'umask=0x02'" in " ".join(a.reason for a in found.absences)


def test_the_system_call_reports_what_the_kernel_says():
    """A PMU that does not exist is refused with an `OSError` of the kernel's own number, not with a crash."""
    with pytest.raises(OSError, match=r"perf_event_open|expected Linux") as refused:
        open_event(2**31 - 1, 0, 0)
    assert refused.value.errno

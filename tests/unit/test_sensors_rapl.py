"""RAPL counters, read from a powercap tree in a temporary directory."""

from __future__ import annotations

import os

import pytest

from mlflow_carbon.core.energy import Ledger
from mlflow_carbon.core.series import Basis, Component, Kind, Quality
from mlflow_carbon.sensors import rapl
from tests.sensor_fakes import WRAP_UJ, VirtualClock, add_cpuinfo, add_zone, site


def _ids(found):
    return [channel.id for sensor in found.sensors for channel in sensor.channels]


def test_packages_and_memory_are_read_and_nothing_is_counted_twice(tmp_path):
    """Two packages and their memory count; core, uncore and the MMIO copy do not; psys is a meter of the node."""
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "uncore",
        "intel-rapl:0:2": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for joules, (zone, name) in enumerate(zones.items()):
        add_zone(tmp_path, zone, name, energy_uj=50_000_000 * (1 + joules))
    found = rapl.probe(site(tmp_path))
    parts = ["rapl:package-0", "rapl:package-0-dram", "rapl:package-1", "rapl:package-1-dram"]
    assert _ids(found) == [*parts, "rapl:psys"]
    package, memory, *_, psys = found.sensors[0].channels
    assert psys.component is Component.NODE
    assert (package.component, memory.component) == (Component.CPU, Component.DRAM)
    assert (package.kind, package.basis, package.quality) == (Kind.COUNTER, Basis.MEASURED, Quality.L3)
    assert (package.low_ratio, package.high_ratio, package.range_uj) == (0.95, 1.05, WRAP_UJ)
    assert found.absences == ()


def test_nested_tree_gives_the_same_channels(tmp_path):
    """A tree with the zones inside each other, as it is mounted into containers, is read as well."""
    add_zone(tmp_path, "intel-rapl/intel-rapl:0", "package-0")
    add_zone(tmp_path, "intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram")
    assert _ids(rapl.probe(site(tmp_path))) == ["rapl:package-0", "rapl:package-0-dram"]


def test_counter_is_read_from_the_open_file(tmp_path):
    """Each read sees the file as it is now, without opening it again."""
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0", energy_uj=1_000_000)
    (sensor,) = rapl.probe(site(tmp_path)).sensors
    assert sensor.read(VirtualClock())[0].energy_uj == 1_000_000
    counter.write_text("1500000\n")
    assert sensor.read(VirtualClock())[0].energy_uj == 1_500_000


def test_wrap_of_the_counter_is_undone(tmp_path):
    """A counter that wraps 30 J before and 20 J after its range has counted 50 J."""
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0", energy_uj=WRAP_UJ - 30_000_000)
    (sensor,) = rapl.probe(site(tmp_path)).sensors
    ledger = Ledger(sensor.channels, start_ns=0, wall_offset_ns=0)
    ledger.add(*sensor.read(VirtualClock(now_ns=0, step_ns=0)))
    counter.write_text("20000000")
    ledger.add(*sensor.read(VirtualClock(now_ns=1_000_000_000, step_ns=0)))
    assert ledger.series(1_000_000_000).energy_uj() == 50_000_000


@pytest.mark.parametrize("content", ["", "garbage"])
def test_failed_read_is_an_error_and_never_a_value(tmp_path, content):
    """A file without a number yields an error sample."""
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0")
    (sensor,) = rapl.probe(site(tmp_path)).sensors
    counter.write_text(content)
    (sample,) = sensor.read(VirtualClock())
    assert sample.energy_uj is None
    assert sample.error is not None
    assert sample.error.startswith("ValueError")


def _denied(path, flags):
    raise PermissionError(13, "Permission denied", str(path))


def test_missing_permission_comes_with_the_command_that_gives_it(tmp_path):
    """A counter that may not be read is an absence with the chmod command and the udev rule."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    found = rapl.probe(site(tmp_path), open_file=_denied)
    assert found.sensors == ()
    (absence,) = found.absences
    assert absence.sensor == "rapl:package-0"
    assert "PermissionError" in absence.reason
    assert absence.remedy.startswith("sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj")
    assert "udev" in absence.remedy


def test_one_command_helps_all_zones_and_is_told_once(tmp_path):
    """Packages and memory that are all closed are one absence that names them."""
    for zone, name in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "dram",
        "intel-rapl:1": "package-1",
    }.items():
        add_zone(tmp_path, zone, name)
    (absence,) = rapl.probe(site(tmp_path), open_file=_denied).absences
    assert "package-0-dram, package-1" in absence.reason


def test_half_of_the_packages_is_not_the_cpu(tmp_path):
    """Where one of two packages cannot be read the CPU is left to the model; memory is still read."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    add_zone(tmp_path, "intel-rapl:0:0", "dram")
    add_zone(tmp_path, "intel-rapl:1", "package-1")

    def open_some(path, flags):
        return _denied(path, flags) if path.parent.name == "intel-rapl:1" else os.open(path, flags)

    found = rapl.probe(site(tmp_path), open_file=open_some)
    assert _ids(found) == ["rapl:package-0-dram"]
    assert [absence.sensor for absence in found.absences] == ["rapl:package-1"]


def test_unreadable_number_names_the_file_to_look_at(tmp_path):
    """A counter file with no number in it is an absence that says what to check."""
    counter = add_zone(tmp_path, "intel-rapl:0", "package-0", energy_uj="nothing")
    (absence,) = rapl.probe(site(tmp_path)).absences
    assert str(counter) in absence.remedy


def test_dies_that_mirror_one_counter_count_once(tmp_path):
    """Two dies with the very same count, each time it is read, are one meter; the other is named and closed."""
    add_zone(tmp_path, "intel-rapl:0", "package-0-die-0", energy_uj=68_000_000)
    add_zone(tmp_path, "intel-rapl:1", "package-0-die-1", energy_uj=68_000_000)
    opened = []

    def open_file(path, flags):
        opened.append(os.open(path, flags))
        return opened[-1]

    found = rapl.probe(site(tmp_path), open_file=open_file)
    assert _ids(found) == ["rapl:package-0-die-0"]
    assert found.sensors[0].channels[0].low_ratio == 0.95
    assert [a.sensor for a in found.absences] == ["rapl:package-0-die-1"]
    assert "repeats the counter of package-0-die-0" in found.absences[0].reason
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[1])


def test_counters_that_are_merely_near_are_doubted(tmp_path):
    """Two packages whose counts differ by 400 uJ may be one: the second may add nothing, and says so."""
    add_zone(tmp_path, "intel-rapl:0", "package-0-die-0", energy_uj=77_000_000)
    add_zone(tmp_path, "intel-rapl:1", "package-0-die-1", energy_uj=77_000_400)
    first, second = rapl.probe(site(tmp_path)).sensors[0].channels
    assert first.low_ratio == 0.95
    assert second.low_ratio == 0.0
    assert "may repeat the counter of package-0-die-0" in second.source


def test_two_zones_of_one_name_keep_their_own_ids(tmp_path):
    """Channel ids stay unique where the kernel gives two zones the same name."""
    add_zone(tmp_path, "intel-rapl:0", "package-0", energy_uj=5_000_000)
    add_zone(tmp_path, "intel-rapl:1", "package-0", energy_uj=90_000_000)
    assert _ids(rapl.probe(site(tmp_path))) == ["rapl:package-0", "rapl:package-0@intel-rapl:1"]


def test_counter_without_a_range_is_still_read(tmp_path):
    """Where the range cannot be read the channel has none, so that a fall of the counter is no wrap."""
    add_zone(tmp_path, "intel-rapl:0", "package-0").with_name("max_energy_range_uj").unlink()
    (channel,) = rapl.probe(site(tmp_path)).sensors[0].channels
    assert channel.range_uj is None


@pytest.mark.parametrize(
    ("flags", "reason", "remedy"),
    [
        ("fpu hypervisor lm", "virtual machine (hypervisor flag in /proc/cpuinfo)", "bare metal"),
        ("fpu lm", "this is no virtual machine", "sudo modprobe intel_rapl_msr"),
        (None, "RAPL is x86 only", "MLFLOW_CARBON_CPU_POWER_W"),
    ],
)
def test_absence_says_whether_it_is_a_virtual_machine(tmp_path, flags, reason, remedy):
    """Without powercap the reason tells virtual machine, missing module and another kind of CPU apart."""
    if flags is not None:
        add_cpuinfo(tmp_path, "A CPU", flags=flags)
    (absence,) = rapl.probe(site(tmp_path)).absences
    assert reason in absence.reason
    assert remedy in absence.remedy


def test_zones_hidden_by_a_container_are_told_from_missing_ones(tmp_path):
    """Docker leaves the links of the zones and masks what they point to."""
    base = tmp_path / "sys/class/powercap"
    base.mkdir(parents=True)
    (base / "intel-rapl:0").symlink_to(tmp_path / "sys/devices/virtual/powercap/gone")
    (absence,) = rapl.probe(site(tmp_path)).absences
    assert "hidden" in absence.reason
    assert "systempaths=unconfined" in absence.remedy


def test_virtual_machine_with_rapl_says_so(tmp_path):
    """A counter inside a virtual machine carries the caveat in its source."""
    add_cpuinfo(tmp_path, "A CPU", flags="hypervisor")
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    assert "hypervisor" in rapl.probe(site(tmp_path)).sensors[0].channels[0].source


def test_the_microcode_stands_in_the_source(tmp_path):
    """Updates of the microcode have made the counter coarser, so that its version is kept with the figure."""
    add_cpuinfo(tmp_path, "A CPU")
    with (tmp_path / "proc/cpuinfo").open("a") as file:
        file.write("microcode\t: 0xd0003e7\n")
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    assert "microcode 0xd0003e7" in rapl.probe(site(tmp_path)).sensors[0].channels[0].source


def test_close_gives_the_files_back(tmp_path):
    """After closing, twice, no descriptor is left open."""
    add_zone(tmp_path, "intel-rapl:0", "package-0")
    opened = []

    def open_file(path, flags):
        opened.append(os.open(path, flags))
        return opened[-1]

    (sensor,) = rapl.probe(site(tmp_path), open_file=open_file).sensors
    sensor.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
    sensor.close()
    assert sensor.read(VirtualClock()) == ()

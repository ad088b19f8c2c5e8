"""The RAPL sensor over powercap trees whose counters follow waveforms."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlflow_carbon.core.series import Case, Component
from mlflow_carbon.sensors import rapl
from mlflow_carbon.testing import (
    Fault,
    FaultKind,
    Meter,
    Plan,
    PowercapTree,
    VirtualClock,
    Zone,
    breaches,
    constant,
    drive,
    square,
    training,
)
from tests.sensor_fakes import site

NOBODY = 65534
FAST = square(low_w=50.0, high_w=150.0, period_s=0.35, duty_ratio=0.7)


def meter(wave, **changes):
    """A RAPL counter: it refreshes each millisecond."""
    return Meter(**({"truth": wave, "refresh_s": 0.001} | changes))


def package(index=0, wave=FAST, **changes):
    """A CPU package."""
    return Zone(path=f"intel-rapl:{index}", name=f"package-{index}", meter=meter(wave, **changes))


def measure(root, zones, truths, *, plan=None, is_nested=False):
    """What the RAPL sensor makes of a tree."""
    tree, clock = PowercapTree(root, zones, is_nested=is_nested), VirtualClock(latency_ns=2000)
    (sensor,) = rapl.probe(site(root)).sensors
    try:
        return drive(sensor, truths, clock=clock, plan=plan or Plan(duration_s=300.0), before_read=tree.show)
    finally:
        sensor.close()


@pytest.mark.parametrize("is_nested", [False, True])
def test_packages_and_memory_are_exact(tmp_path, is_nested):
    """Two packages and a memory zone are right to 0.1 %; zones inside and beside are not read, `psys` is no part."""
    zones = [
        package(0),
        package(1, training(), first_uj=7_000_000_000),
        Zone(path="intel-rapl:0:0", name="core", meter=meter(constant(40.0))),
        Zone(path="intel-rapl:0:1", name="uncore", meter=meter(constant(4.0))),
        Zone(path="intel-rapl:0:2", name="dram", meter=meter(constant(20.0))),
        Zone(path="intel-rapl:2", name="psys", meter=meter(constant(500.0))),
        Zone(path="intel-rapl-mmio:0", name="package-0", meter=meter(FAST)),
    ]
    truths = {"rapl:package-0": FAST, "rapl:package-1": training(), "rapl:package-0-dram": constant(20.0)}
    outcome = measure(tmp_path, zones, truths, is_nested=is_nested)
    assert {c.id for c in outcome.series.parts()} == set(truths)
    assert {c.id for c in outcome.series.channels} == {*truths, "rapl:psys"}
    assert all(abs(r.error_ratio) <= 0.001 for r in outcome.channels.values())
    assert outcome.series.energy_uj(Component.DRAM) / 1e6 == pytest.approx(300 * 20.0, rel=0.001)
    assert outcome.total.covers
    assert outcome.findings == ()


def test_wraps_lose_nothing(tmp_path):
    """Half an hour on a counter of 65 kJ is right to 0.1 %."""
    zone = package(wave=constant(150.0), range_uj=65_532_610_987, first_uj=65_000_000_000)
    outcome = measure(tmp_path, [zone], constant(150.0), plan=Plan(duration_s=1800.0, late_ratio=0.3))
    assert outcome.total.cases[Case.WRAPPED] == (65_000_000_000 + 1800 * 150_000_000) // 65_532_610_987
    assert abs(outcome.total.error_ratio) <= 0.001


def test_a_reset_is_no_wrap(tmp_path):
    """A counter that begins again after a suspend loses one second, and the verdict names it."""
    reset = Fault(kind=FaultKind.RESET, start_s=60.5)
    zone = package(wave=constant(150.0), first_uj=100_000_000_000, faults=(reset,))
    outcome = measure(tmp_path, [zone], constant(150.0))
    assert outcome.total.cases[Case.RESET] == 1
    assert outcome.total.measured_j == pytest.approx(299 * 150.0, rel=0.001)
    assert outcome.findings == ("rapl:package-0: 1 interval(s) lost (reset)",)


@pytest.mark.parametrize("end_s", [63.5, 90.5])
def test_failed_reads_are_no_zeros(tmp_path, end_s):
    """While the file holds no number the counter goes on: the total is right, and the verdict counts the reads."""
    outcome = measure(
        tmp_path,
        [package(wave=constant(150.0), faults=(Fault(kind=FaultKind.ERROR, start_s=60.5, end_s=end_s),))],
        constant(150.0),
    )
    failed = int(end_s - 60.5)
    assert outcome.total.errors == failed
    assert abs(outcome.total.error_ratio) <= 0.001
    assert outcome.findings == (f"rapl:package-0: {failed} of 302 reads failed",)


def test_a_negative_number_is_a_failed_read(tmp_path):
    """A counter that shows a negative number fails by itself; the other package is read."""
    negative = Fault(kind=FaultKind.VALUE, value=-5, start_s=0.005)
    tree = PowercapTree(tmp_path, [package(0), package(1, faults=(negative,))])
    (sensor,) = rapl.probe(site(tmp_path)).sensors
    clock = VirtualClock(latency_ns=2000)
    tree.show(1.0)
    found = breaches(sensor, clock)
    sensor.close()
    assert [text.partition(":")[0] for text in found] == ["rapl"]
    assert found[0].startswith("rapl:package-1: the read failed")


def test_mirrored_dies_count_once(tmp_path):
    """Two dies that mirror one counter have the energy of one."""
    zones = [package(0, constant(68.0), first_uj=10**9), package(1, constant(68.0), first_uj=10**9)]
    outcome = measure(tmp_path, zones, {"rapl:package-0": constant(68.0)})
    assert outcome.series.energy_uj() / 1e6 == pytest.approx(300 * 68.0, rel=0.001)


def test_equal_power_is_no_mirror(tmp_path):
    """Two packages with the same power and counts of their own both count."""
    zones = [package(0, constant(68.0), first_uj=10**9), package(1, constant(68.0), first_uj=5 * 10**9)]
    outcome = measure(tmp_path, zones, constant(68.0))
    assert outcome.series.energy_uj() / 1e6 == pytest.approx(2 * 300 * 68.0, rel=0.001)


def test_half_the_packages_is_not_the_cpu(tmp_path):
    """If one package cannot be read the CPU is left out whole; memory is still measured.

    The tests may run as root, whom permissions do not stop, so here a directory stands in the file's place.
    """
    dram = Zone(path="intel-rapl:0:0", name="dram", meter=meter(constant(20.0)))
    tree = PowercapTree(tmp_path, [package(0), package(1), dram])
    tree.hide("intel-rapl:1")
    found = rapl.probe(site(tmp_path))
    assert [c.id for s in found.sensors for c in s.channels] == ["rapl:package-0-dram"]
    assert [a.sensor for a in found.absences] == ["rapl:package-1"]
    assert "IsADirectoryError" in found.absences[0].reason
    for sensor in found.sensors:
        sensor.close()


@contextmanager
def unprivileged():
    """Without the powers of root, for as long as this lasts."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_missing_permission_says_what_to_do():
    """Where the kernel keeps the counter to root, the probe says so with the command that opens it.

    Root is set aside for the probe, so that the refusal is the kernel's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)  # `tmp_path` is closed to others
        PowercapTree(root, [package(0)]).deny("intel-rapl:0")
        with unprivileged():
            found = rapl.probe(site(root))
    assert found.sensors == ()
    assert "PermissionError" in found.absences[0].reason
    assert found.absences[0].remedy.startswith("sudo chmod a+r")


def test_the_tree_is_updated_in_place(tmp_path):
    """A file that is kept open shows each new count, never an empty file."""
    tree = PowercapTree(tmp_path, [package(wave=constant(100.0))])
    counter = tree.folder("intel-rapl:0") / "energy_uj"
    with counter.open("rb", buffering=0) as file:
        for t_s in (0.0, 1.0, 0.5):
            tree.show(t_s)
            assert int(os.pread(file.fileno(), 32, 0)) == round(t_s * 1e8)
    assert (counter.parent / "name").read_text() == "package-0\n"

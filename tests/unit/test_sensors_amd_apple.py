"""AMD GPUs and Apple silicon, through fake vendor modules. Never run on hardware."""

from __future__ import annotations

import pytest

from mlflow_carbon.core.series import Basis, Component, Kind, Quality
from mlflow_carbon.sensors import amd, apple
from tests.sensor_fakes import FakeAmd, FakeAmdError, FakeAmdGpu, FakeApple, VirtualClock, site


def _found(tmp_path, *gpus, init_error=None, **env):
    (tmp_path / "dev").mkdir(exist_ok=True)
    (tmp_path / "dev/kfd").touch()
    library = FakeAmd(list(gpus), init_error=init_error)
    pauses: list[float] = []
    return amd.probe(site(tmp_path, env=env), library=library, pause=pauses.append), library, pauses


def test_a_machine_without_rocm_has_nothing_to_say(tmp_path):
    """Without the driver's device no library is loaded and no reason is needed."""
    found = amd.probe(site(tmp_path))
    assert (found.sensors, found.absences) == ((), ())


def test_a_counter_that_agrees_with_power_is_read(tmp_path):
    """1 307 190 counts of 15.3 uJ are 20 J in 0.1 s, 200 W: the counter counts, in microjoules."""
    gpu = FakeAmdGpu()
    found, _, pauses = _found(tmp_path, gpu)
    (channel,) = found.sensors[0].channels
    assert (channel.id, channel.kind, channel.quality) == ("amd:0", Kind.COUNTER, Quality.L3)
    assert "never run on hardware" in channel.source
    assert pauses == [0.1]
    gpu.accumulator, gpu.step = 2_000_000, 0
    (sample,) = found.sensors[0].read(VirtualClock())
    assert sample.energy_uj == 30_600_000


@pytest.mark.parametrize(
    "gpu",
    [
        FakeAmdGpu(step=0),  # frozen, as on MI100
        FakeAmdGpu(step=-1),
        FakeAmdGpu(step=130_719_000),  # 100 times the power
        FakeAmdGpu(accumulator=None),
    ],
)
def test_a_counter_that_disagrees_gives_way_to_power(tmp_path, gpu):
    """A frozen, falling, mistaken or missing counter is not used; power is, and the source says why."""
    found, _, _ = _found(tmp_path, gpu)
    (channel,) = found.sensors[0].channels
    assert (channel.kind, channel.quality) == (Kind.GAUGE, Quality.L1)
    assert "no energy counter that agrees" in channel.source
    assert found.sensors[0].read(VirtualClock())[0].power_mw == 200_000


def test_the_second_die_is_a_reason_and_never_zero(tmp_path):
    """A die that tells 0 W and no energy is left out: its energy is in the first die's figure."""
    found, _, _ = _found(tmp_path, FakeAmdGpu(), FakeAmdGpu(power_w=0, step=0))
    assert [c.id for c in found.sensors[0].channels] == ["amd:0"]
    assert found.absences[0].sensor == "amd:1"
    assert "the first one's figure is of both" in found.absences[0].remedy


@pytest.mark.parametrize(
    ("env", "ids"),
    [
        ({}, ["amd:0", "amd:1", "amd:2"]),
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, ["amd:2", "amd:0"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-b"}, ["amd:1"]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, ["amd:2"]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}, ["amd:0"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["amd:1"]),
    ],
)
def test_rocm_counts_in_its_own_order(tmp_path, env, ids):
    """Numbers are HIP's, not those of the PCI bus; HIP's variable counts among what ROCr's has left."""
    gpus = [FakeAmdGpu(hip=(2, "GPU-c")), FakeAmdGpu(hip=(0, "GPU-a")), FakeAmdGpu(hip=(1, "GPU-b"))]
    found, _, _ = _found(tmp_path, *gpus, **env)
    assert [c.id for c in found.sensors[0].channels] == ids


def test_hidden_gpus_give_the_library_back(tmp_path):
    """With every GPU hidden there is a reason that names the variable, and no user of the library left."""
    found, library, _ = _found(tmp_path, FakeAmdGpu(), ROCR_VISIBLE_DEVICES="7")
    assert found.sensors == ()
    assert found.absences[0].reason.startswith("ROCR_VISIBLE_DEVICES names '7'")
    assert library.users == 0


def test_a_library_that_does_not_start_is_a_reason(tmp_path, capsys):
    """A binding that fails, or that is not there, names what to install, and nothing is printed."""
    found, _, _ = _found(tmp_path, init_error=FakeAmdError("34 | driver not loaded"))
    assert "driver not loaded" in found.absences[0].reason
    absent = amd.probe(site(tmp_path))
    assert "mlflow-carbon[amd]" in absent.absences[0].remedy
    assert capsys.readouterr().out == ""


def test_a_failed_amd_read_is_an_error_and_never_a_value(tmp_path):
    """A GPU that stops telling its power yields the error."""
    gpu = FakeAmdGpu(accumulator=None)
    found, _, _ = _found(tmp_path, gpu)
    gpu.power_w = "N/A"
    (failed,) = found.sensors[0].read(VirtualClock())
    assert (failed.power_mw, failed.error) == (None, "ValueError: expected a power above 0 W, found none")
    found.sensors[0].close()
    found.sensors[0].close()


CHIP: dict[str, int | None] = {"cpu_total_mj": 0, "gpu_mj": 0, "gpu_sram_mj": 0, "ane_mj": 0, "dram_mj": None}


def test_an_apple_chip_is_modelled_part_by_part():
    """What the chip tells is read with one call and labelled modelled; what it does not tell has no channel."""
    (sensor,) = apple.probe(site(), library=FakeApple(dict(CHIP))).sensors
    assert [(c.id, c.component) for c in sensor.channels] == [
        ("apple:cpu", Component.CPU),
        ("apple:gpu", Component.GPU),
        ("apple:ane", Component.GPU),
    ]
    assert {(c.basis, c.quality) for c in sensor.channels} == {(Basis.MODELLED, Quality.L0)}
    assert all("never run on hardware" in c.source for c in sensor.channels)
    samples = sensor.read(VirtualClock())
    assert [s.energy_uj for s in samples] == [2_000_000, 4_000_000, 2_000_000]
    assert len({s.t_mono_ns for s in samples}) == 1


def test_an_apple_chip_that_fails_is_an_error():
    """A library that fails at the start is a reason; one that fails later, or tells less, yields errors."""
    failing = apple.probe(site(), library=FakeApple({}, error=RuntimeError("no channel")))
    assert "no channel" in failing.absences[0].reason
    library = FakeApple(dict(CHIP))
    (sensor,) = apple.probe(site(), library=library).sensors
    library.told["ane_mj"] = None
    assert [s.error is None for s in sensor.read(VirtualClock())] == [True, True, False]
    library.error = RuntimeError("gone")
    assert [s.error for s in sensor.read(VirtualClock())] == ["RuntimeError: gone"] * 3
    sensor.close()

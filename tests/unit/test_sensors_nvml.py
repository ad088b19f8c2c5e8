"""NVIDIA GPUs, read from a fake driver library."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from mlflow_carbon.core.energy import Ledger
from mlflow_carbon.core.series import Basis, Component, Kind, Quality
from mlflow_carbon.sensors import findings, nvml
from tests.sensor_fakes import FakeGpu, FakeNvml, FakeSlice, VirtualClock, site


def _found(*gpus, **env):
    library = FakeNvml(list(gpus))
    return nvml.probe(site(env=env), library=library), library


def test_energy_counter_is_preferred_and_given_in_microjoules():
    """A GPU with a counter is read as one, at level 3, within 5 %, and 5000 mJ are 5 000 000 uJ."""
    found, _ = _found(FakeGpu("GPU-a"))
    (sensor,) = found.sensors
    (channel,) = sensor.channels
    assert (channel.id, channel.device, channel.component) == ("nvml:0", "NVIDIA A100", Component.GPU)
    assert (channel.kind, channel.basis, channel.quality) == (Kind.COUNTER, Basis.MEASURED, Quality.L3)
    assert (channel.low_ratio, channel.high_ratio) == (0.95, 1.05)
    assert channel.power_max_w == 600.0
    (sample,) = sensor.read(VirtualClock())
    assert (sample.energy_uj, sample.power_mw, sample.util_ppm, sample.error) == (
        5_000_000,
        None,
        750_000,
        None,
    )


def test_no_identity_of_a_board_is_stored():
    """Channels and absences, which reach the server, name a GPU by number: a UUID tells whose machine it was."""
    found, _ = _found(
        FakeGpu("GPU-8932f937"),
        FakeGpu("GPU-77aa", mig=1),
        FakeGpu("GPU-ffee", energy_mj=None, power_mw=None),
    )
    told = [*(asdict(c) for s in found.sensors for c in s.channels), *(asdict(a) for a in found.absences)]
    assert len(told) == 3
    assert "GPU-" not in json.dumps(told)


def test_power_stands_in_where_there_is_no_counter():
    """Without a counter power is sampled, at level 1; the board errs as before, and the source says why."""
    found, _ = _found(FakeGpu("GPU-a", energy_mj=None, limit_mw=None))
    (channel,) = found.sensors[0].channels
    assert (channel.kind, channel.quality) == (Kind.GAUGE, Quality.L1)
    assert (channel.low_ratio, channel.high_ratio, channel.power_max_w) == (0.95, 1.05, 2000.0)
    assert "no energy counter" in channel.source
    (sample,) = found.sensors[0].read(VirtualClock())
    assert (sample.energy_uj, sample.power_mw) == (None, 250_000)


def test_reading_is_stamped_with_the_middle_of_the_call():
    """The time of a reading is the middle of the call, and asking for the utilisation does not shift it."""
    found, _ = _found(FakeGpu("GPU-a"))
    (sample,) = found.sensors[0].read(VirtualClock(now_ns=0, step_ns=100))
    assert (sample.t_mono_ns, sample.read_ns) == (250, 100)  # the first look at the clock is for the beat


def test_utilisation_is_asked_for_once_a_second():
    """At 10 Hz nine of ten readings leave out what the driver has not averaged anew."""
    found, _ = _found(FakeGpu("GPU-a"))
    clock = VirtualClock(now_ns=0, step_ns=25_000_000)  # it moves at each look: 0.1 s or so from read to read
    told = [found.sensors[0].read(clock)[0].util_ppm is not None for _ in range(20)]
    assert told[0]
    assert 1 <= sum(told[1:]) <= 3


def test_failed_read_is_an_error_and_never_a_value():
    """A GPU that stops answering yields the text of the error; the other one goes on."""
    first, second = FakeGpu("GPU-a"), FakeGpu("GPU-b")
    found, _ = _found(first, second)
    first.energy_mj = None
    failed, good = found.sensors[0].read(VirtualClock())
    assert failed.error == "FakeNvmlError: Not Supported"
    assert (failed.energy_uj, failed.power_mw, failed.util_ppm) == (None, None, None)
    assert good.error is None


def test_utilisation_is_left_out_where_the_driver_has_none():
    """A GPU without utilisation is still a good reading."""
    found, _ = _found(FakeGpu("GPU-a", util_percent=None))
    (sample,) = found.sensors[0].read(VirtualClock())
    assert (sample.energy_uj, sample.util_ppm, sample.error) == (5_000_000, None, None)


def test_only_visible_gpus_are_read():
    """`CUDA_VISIBLE_DEVICES` chooses by number and by the beginning of a UUID."""
    gpus = [FakeGpu(f"GPU-{letter}") for letter in "abc"]
    found, _ = _found(*gpus, CUDA_VISIBLE_DEVICES="2,GPU-a")
    assert [c.id for c in found.sensors[0].channels] == ["nvml:2", "nvml:0"]


@pytest.mark.parametrize("value", ["", "-1"])
def test_hidden_gpus_are_a_reason_and_the_driver_is_given_back(value):
    """With every GPU hidden there is no sensor, a reason, and no user of the driver left."""
    found, library = _found(FakeGpu("GPU-a"), CUDA_VISIBLE_DEVICES=value)
    assert found.sensors == ()
    assert "CUDA_VISIBLE_DEVICES" in found.absences[0].reason
    assert library.users == 0


SLICED = FakeGpu(
    "GPU-a", mig=1, energy_mj=7000, slices=[FakeSlice("MIG-one", 3, (1, 0)), FakeSlice("MIG-two", 2, (2, 0))]
)


@pytest.mark.parametrize(
    ("shown", "energy_uj", "part"),
    [
        ("MIG-two", 2_000_000, "2 of 7"),
        ("MIG-GPU-a/1/0", 3_000_000, "3 of 7"),
        ("MIG-one,MIG-two", 5_000_000, "5 of 7"),
        (None, 3_000_000, "3 of 7"),  # CUDA takes the first slice
        ("0", 3_000_000, "3 of 7"),
    ],
)
def test_a_slice_is_charged_with_its_part_of_the_gpu(shown, energy_uj, part):
    """Of 7 J of the GPU, n of 7 slices get n J: a model, between a tenth of that and the whole GPU."""
    found, _ = _found(SLICED, **({} if shown is None else {"CUDA_VISIBLE_DEVICES": shown}))
    (channel,) = found.sensors[0].channels
    assert (channel.basis, channel.quality, channel.kind) == (Basis.MODELLED, Quality.L0, Kind.COUNTER)
    assert (channel.low_ratio, channel.high_ratio) == (0.1, pytest.approx(7_000_000 / energy_uj))
    assert f"{part} MIG slices" in channel.source
    assert part in channel.device
    assert found.sensors[0].read(VirtualClock())[0].energy_uj == energy_uj


def test_slices_that_are_not_named_are_one():
    """Of two GPUs in MIG mode and nothing named, CUDA shows the first slice of the first: no more is charged."""
    gpus = [FakeGpu(f"GPU-{i}", mig=1, slices=[FakeSlice(f"MIG-{i}", 3)]) for i in "ab"]
    found, _ = _found(*gpus)
    assert [c.id for c in found.sensors[0].channels] == ["nvml:0"]
    assert found.absences[0].sensor == "nvml:1"
    assert "nvidia-smi -L" in found.absences[0].remedy
    both, _ = _found(*gpus, CUDA_VISIBLE_DEVICES="MIG-b,MIG-a")
    assert [c.id for c in both.sensors[0].channels] == ["nvml:1", "nvml:0"]


def test_slices_that_cannot_be_told_apart_are_left_out():
    """With MIG on, a slice the driver does not list, or no slice at all, is a reason and no figure."""
    by_name, _ = _found(FakeGpu("GPU-a"), CUDA_VISIBLE_DEVICES="MIG-GPU-a/1/0")
    by_mode, _ = _found(FakeGpu("GPU-a", mig=1))
    off, _ = _found(FakeGpu("GPU-a", mig=0))
    assert by_name.sensors == by_mode.sensors == ()
    assert "MIG" in by_name.absences[0].reason
    assert "lists no slice" in by_mode.absences[0].reason
    assert off.sensors[0].channels[0].basis is Basis.MEASURED


FIELDS = {(186, 0): 251_000, (185, 0): 249_000}


@pytest.mark.parametrize(
    ("gpu", "period_s", "power_mw", "quality", "words"),
    [
        (FakeGpu("GPU-a", energy_mj=None, fields_mw=FIELDS), 0.1, 251_000, Quality.L2, "field 186"),
        (FakeGpu("GPU-a", energy_mj=None, fields_mw=FIELDS), 1.0, 249_000, Quality.L1, "field 185"),
        (FakeGpu("GPU-a", energy_mj=None, fields_mw={(186, 0): 251_000}), 1.0, 251_000, Quality.L1, "field 186"),
        (FakeGpu("GPU-a", energy_mj=None, samples=[(1, 248_000)]), 1.0, 248_000, Quality.L2, "nvmlDeviceGetSamples"),
        (FakeGpu("GPU-a", energy_mj=None), 0.1, 250_000, Quality.L2, "nvmlDeviceGetPowerUsage"),
    ],
)  # fmt: skip
def test_the_best_way_that_answers_is_taken_and_named(gpu, period_s, power_mw, quality, words):
    """Without a counter: the field that fits the period, else the driver's buffer, else power."""
    library = FakeNvml([gpu])
    found = nvml.probe(site(period_s=period_s), library=library)
    (channel,) = found.sensors[0].channels
    assert (channel.kind, channel.quality) == (Kind.GAUGE, quality)
    assert words in channel.source
    assert "no energy counter" in channel.source
    assert found.sensors[0].read(VirtualClock())[0].power_mw == power_mw


HOUR_NS = 3600 * 10**9


class WallClock(VirtualClock):
    """A clock whose UTC, by which the driver stamps, is an hour behind its monotonic time."""

    def wall_ns(self) -> int:
        return self.now_ns - HOUR_NS


def test_the_buffer_gives_each_sample_once_at_its_own_time():
    """The driver's UTC stamps are moved to the monotonic clock; where there is nothing new there is no reading."""
    gpu = FakeGpu("GPU-a", energy_mj=None, samples=[(1_000, 100_000), (21_000, 110_000)])
    (sensor,) = _found(gpu)[0].sensors
    clock = WallClock(now_ns=30_000_000 + HOUR_NS, step_ns=0)
    (first,) = sensor.read(clock)
    assert (first.t_mono_ns - HOUR_NS, first.power_mw, first.util_ppm) == (21_000_000, 110_000, 750_000)
    assert sensor.read(clock) == ()
    gpu.samples += [(41_000, 120_000), (61_000, 130_000)]
    clock.now_ns = 70_000_000 + HOUR_NS
    assert [(s.t_mono_ns - HOUR_NS, s.power_mw) for s in sensor.read(clock)] == [
        (41_000_000, 120_000),
        (61_000_000, 130_000),
    ]


@pytest.mark.parametrize(
    "lacking",
    [
        {},  # nvmlDeviceGetPowerUsage
        {"fields_mw": {(185, 0): 250_000}},
        {"fields_mw": {(186, 0): 250_000}},
        {"samples": [(1_000, 250_000)]},
    ],
)
def test_a_power_of_0_w_is_a_failed_read(lacking):
    """No GPU draws nothing: such an answer has an error and no value, whichever call gave it."""
    gpu = FakeGpu("GPU-a", energy_mj=None, **lacking)
    (sensor,) = _found(gpu)[0].sensors
    assert sensor.read(VirtualClock())[-1].error is None
    gpu.power_mw = 0
    gpu.fields_mw = dict.fromkeys(gpu.fields_mw, 0)
    gpu.samples = [*gpu.samples, (2_000, 0)] if gpu.samples else []
    (failed,) = sensor.read(VirtualClock(now_ns=HOUR_NS))
    assert (failed.power_mw, failed.error) == (
        None,
        "ValueError: expected a power above 0 mW, got 0: no GPU draws nothing",
    )


def test_a_gpu_whose_power_is_0_at_the_start_is_read_another_way_or_not_at_all():
    """A field of 0 mW gives way to the next call; where all say 0 the reason is told."""
    (sensor,) = _found(FakeGpu("GPU-a", energy_mj=None, fields_mw={(185, 0): 0}))[0].sensors
    assert sensor.read(VirtualClock())[0].power_mw == 250_000
    (sensor,) = _found(FakeGpu("GPU-a", energy_mj=None, samples=[(1_000, 0)]))[0].sensors
    assert sensor.read(VirtualClock())[0].power_mw == 250_000
    (absence,) = _found(FakeGpu("GPU-a", energy_mj=None, power_mw=0))[0].absences
    assert "no GPU draws nothing" in absence.reason


@pytest.mark.parametrize(
    ("power_mw", "load_percent", "words"),
    [
        ([200_000] * 8, [10, 90] * 4, "stood still for 7 s while the load changed by 80 points"),
        ([200_000] * 8, [50, 60] * 4, ""),  # a steady load
        ([200_000, 200_001] * 4, [10, 90] * 4, ""),  # a steady power that is read anew
        ([200_000] * 5 + [210_000] * 3, [10, 90] * 4, ""),  # four seconds of it
        ([200_000] * 8 + [210_000], [10, 90] * 4 + [10], "stood still for 7 s"),  # it came back
    ],
)
def test_a_power_that_stands_still_under_a_changing_load_is_found(power_mw, load_percent, words):
    """The same milliwatts for 5 s and more, while the load goes up and down, are no readings."""
    gpu = FakeGpu("GPU-a", energy_mj=None)
    (sensor,) = _found(gpu)[0].sensors
    for second, (gpu.power_mw, gpu.util_percent) in enumerate(zip(power_mw, load_percent, strict=True)):
        sensor.read(VirtualClock(now_ns=second * 10**9, step_ns=0))
    assert words in "".join(findings([sensor]))
    assert bool(findings([sensor])) is bool(words)


def test_a_power_of_0_w_does_not_make_a_counter_doubtful():
    """The comparison of counter and power leaves out a power that the driver does not know."""
    gpu = FakeGpu("GPU-a", energy_mj=0)
    (sensor,) = _found(gpu)[0].sensors
    for second in range(10):
        gpu.energy_mj, gpu.power_mw = 250_000 * second, 0 if second % 3 == 1 else 250_000
        sensor.read(VirtualClock(now_ns=second * 10**9, step_ns=0))
    assert findings([sensor]) == ()


def test_a_counter_of_the_whole_module_stands_for_cpu_and_memory_too():
    """GH200: the counter includes the CPU, so that no CPU and no memory is added; the source says so."""
    module = {(185, 0): 400_000, (185, 1): 500_000}
    found, _ = _found(FakeGpu("GPU-a", name="NVIDIA GH200 480GB", fields_mw=module))
    (channel,) = found.sensors[0].channels
    assert channel.kind is Kind.COUNTER
    assert "whole module" in channel.source
    assert found.covers == {Component.CPU, Component.DRAM}


def test_a_counter_that_may_be_of_a_module_is_not_used():
    """Another superchip: which part its counter is of is not known, the power of the GPU alone is."""
    module = {(185, 0): 400_000, (185, 1): 500_000}
    found, _ = _found(FakeGpu("GPU-a", name="NVIDIA GB200", fields_mw=module))
    (channel,) = found.sensors[0].channels
    assert channel.kind is Kind.GAUGE
    assert "may be of the whole module" in channel.source
    assert found.covers == frozenset()


@pytest.mark.parametrize(("watts", "words"), [(250, None), (100, "2.5 times"), (600, "0.42 times")])
def test_a_counter_that_disagrees_with_power_is_a_finding(watts, words):
    """250 W by the counter for 5 s: power of 250 W agrees, 100 W and 600 W do not."""
    gpu = FakeGpu("GPU-a", power_mw=watts * 1000)
    (sensor,) = _found(gpu)[0].sensors
    clock = VirtualClock(step_ns=0)
    assert findings([sensor]) == ()
    for second in range(6):
        gpu.energy_mj = 250_000 * second
        clock.now_ns = 1_000_000_000 * second
        sensor.read(clock)
    found = findings([sensor])
    assert (words is None) == (found == ())
    assert words is None or words in found[0]


def test_one_lost_gpu_does_not_hide_the_others():
    """A GPU that fails at the start is an absence; the others are read."""
    found, _ = _found(FakeGpu("lost"), FakeGpu("GPU-b"))
    assert [c.id for c in found.sensors[0].channels] == ["nvml:1"]
    assert found.absences[0].sensor == "nvml:0"
    assert "GPU is lost" in found.absences[0].reason


def test_gpu_that_tells_nothing_is_a_reason():
    """A GPU with neither counter nor power is left out and named."""
    found, library = _found(FakeGpu("GPU-a", energy_mj=None, power_mw=None))
    assert found.sensors == ()
    assert found.absences[0].sensor == "nvml:0"
    assert library.users == 0


def test_number_of_a_gpu_is_doubted_only_where_models_differ():
    """CUDA may count the fastest first: with unlike GPUs the source warns until the order is fixed."""
    unlike = [FakeGpu("GPU-a"), FakeGpu("GPU-b", name="NVIDIA T4")]
    doubted, _ = _found(*unlike, CUDA_VISIBLE_DEVICES="0")
    ordered, _ = _found(*unlike, CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    alike, _ = _found(FakeGpu("GPU-a"), FakeGpu("GPU-b"), CUDA_VISIBLE_DEVICES="0")
    assert "CUDA_DEVICE_ORDER" in doubted.sensors[0].channels[0].source
    assert "CUDA_DEVICE_ORDER" not in ordered.sensors[0].channels[0].source
    assert "CUDA_DEVICE_ORDER" not in alike.sensors[0].channels[0].source


def test_driver_that_does_not_start_is_a_reason():
    """A driver that refuses to start is explained with its own words."""
    found = nvml.probe(site(), library=FakeNvml([], init_error="Driver/library version mismatch"))
    assert "version mismatch" in found.absences[0].reason


def test_machine_without_gpu_is_a_reason():
    """A driver without a GPU leaves a reason and is given back."""
    found, library = _found()
    assert found.absences[0].reason == "the driver lists no GPU"
    assert library.users == 0


def test_closing_twice_gives_the_driver_back_once():
    """Another user of the driver is not shut down by a second close."""
    found, library = _found(FakeGpu("GPU-a"))
    library.nvmlInit()
    found.sensors[0].close()
    found.sensors[0].close()
    assert library.users == 1


def test_energy_of_four_gpus_is_four_times_one():
    """Four GPUs at 300 W for 10 s are 12 000 J."""
    gpus = [FakeGpu(f"GPU-{i}") for i in range(4)]
    (sensor,) = _found(*gpus)[0].sensors
    ledger = Ledger(sensor.channels, start_ns=0, wall_offset_ns=0)
    for second in range(11):
        for gpu in gpus:
            gpu.energy_mj = 7000 + 300_000 * second
        for sample in sensor.read(VirtualClock(now_ns=second * 1_000_000_000, step_ns=0)):
            ledger.add(sample)
    assert ledger.series(10_000_000_000).energy_uj() == 12_000_000_000

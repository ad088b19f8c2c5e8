"""The NVML sensor through the real `pynvml`, over a C library whose GPUs follow waveforms.

`pynvml` keeps the first library it finds, so all of this happens in one process of its own, which is handed plain
functions and answers with values.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median

import pytest

from mlflow_carbon.core.series import Case, Quality
from mlflow_carbon.sensors import findings, nvml, observe
from mlflow_carbon.testing import (
    Fault,
    FaultKind,
    NvmlStub,
    Plan,
    SimulatedGpu,
    constant,
    drive,
    ramp,
    sine,
    square,
    step,
    training,
)
from mlflow_carbon.testing.nvml import GPU_IS_LOST, compile_stub
from tests.sensor_fakes import site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: the library is found by its SONAME"),
]

ROOT = Path(__file__).parents[2]
ENERGY, POWER = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"
INSTANT, AVERAGE = "NVML_FI_DEV_POWER_INSTANT", "NVML_FI_DEV_POWER_AVERAGE"
FIVE_MINUTES = Plan(duration_s=300.0, late_ratio=0.05, before_s=0.37)
TEN_HZ = Plan(duration_s=300.0, period_s=0.1, late_ratio=0.05, before_s=0.37)
FAST = square(low_w=100.0, high_w=300.0, period_s=0.35, duty_ratio=0.7)
WAVES = {
    "constant": constant(300.0),
    "step": step(before_w=100.0, after_w=300.0, at_s=33.3),
    "ramp": ramp(start_w=50.0, end_w=350.0, duration_s=90.0),
    "sine": sine(mean_w=200.0, amplitude_w=150.0, period_s=1.7),
    "square": FAST,
    "training": training(),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The compiled stub."""
    return compile_stub(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def far(library):
    """Calls a function in the process that has the stub."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments, **options: pool.submit(
            function, library, *arguments, **options
        ).result(timeout=120)


def measure(library, gpus, *, plan=FIVE_MINUTES, env=None, faults=(), is_virtual=True):
    """What the sensor finds and what it makes of the waveforms; runs in the far process."""
    stub = NvmlStub(library, gpus, faults=faults, is_virtual=is_virtual)
    stub.load()
    found = nvml.probe(site(env=env))
    truths = {f"nvml:{number}": gpu.waveform for number, gpu in enumerate(gpus)}
    outcomes = [drive(sensor, truths, clock=stub.clock, plan=plan) for sensor in found.sensors]
    channels = [channel for sensor in found.sensors for channel in sensor.channels]
    for sensor in found.sensors:
        sensor.close()
    return (outcomes[0] if outcomes else None), channels, found.absences


def gpu(index=0, wave=None, **changes):
    """One of several GPUs."""
    return SimulatedGpu(uuid=f"GPU-{index}", waveform=wave or training(), **changes)


@pytest.mark.parametrize("name", WAVES)
def test_the_library_and_the_waveforms_agree(far, name):
    """Five minutes by the energy counter are right to 0.1 %, so the formulas in C and Python agree, too."""
    outcome, (channel,), absences = far(measure, [gpu(wave=WAVES[name])])
    assert absences == ()
    assert channel.quality is Quality.L3
    assert abs(outcome.total.error_ratio) <= 0.001
    assert outcome.total.covers
    assert outcome.findings == ()


@pytest.mark.parametrize("name", WAVES)
def test_power_at_10_hz_is_right_to_one_percent(far, name):
    """Without an energy counter power read ten times a second is right to 1 %: here the driver means over a second."""
    outcome, (channel,), _ = far(
        measure, [gpu(wave=WAVES[name], unsupported=(ENERGY,), power_window_s=1.0)], plan=TEN_HZ
    )
    assert channel.quality < Quality.L3
    assert abs(outcome.total.error_ratio) <= 0.01


def test_power_at_1_hz_is_right_where_the_driver_means_over_a_second(far):
    """Once a second is enough for a mean of a second."""
    outcome, _, _ = far(measure, [gpu(unsupported=(ENERGY,), power_window_s=1.0)])
    assert abs(outcome.total.error_ratio) <= 0.01


@pytest.mark.parametrize("count", [1, 4, 16])
@pytest.mark.parametrize("unsupported", [(), (ENERGY,)])
def test_gpus_add_up(far, count, unsupported):
    """N GPUs have N times the energy of one, to 0.1 %."""
    gpus = [gpu(i, constant(300.0), unsupported=unsupported) for i in range(count)]
    outcome, channels, _ = far(measure, gpus)
    assert len(channels) == count
    assert outcome.total.measured_j == pytest.approx(count * 300 * 300.0, rel=0.001)


def test_visible_devices_are_counted(far):
    """By number and by UUID only the GPUs that CUDA shows are counted."""
    gpus = [gpu(i, constant(100.0 * (i + 1))) for i in range(4)]
    for value, joules in (("2", 90_000.0), ("GPU-1,GPU-3", 180_000.0), ("0,3", 150_000.0)):
        outcome, _, _ = far(measure, gpus, env={"CUDA_VISIBLE_DEVICES": value})
        assert outcome.series.energy_uj() / 1e6 == pytest.approx(joules, rel=0.001)


def test_a_reset_loses_one_window(far):
    """A driver that is loaded again costs the second in which it was, and the verdict names it."""
    outcome, _, _ = far(
        measure, [gpu(wave=constant(300.0), faults=(Fault(kind=FaultKind.RESET, start_s=60.5),))]
    )
    assert outcome.total.cases[Case.RESET] == 1
    assert outcome.total.measured_j == pytest.approx(299 * 300.0, rel=0.001)
    assert outcome.findings


@pytest.mark.parametrize("code", [10, 999])
def test_failed_calls_are_no_zeros(far, code):
    """While the counter answers with an error it goes on: the total is right and the verdict counts the failures."""
    fault = Fault(kind=FaultKind.ERROR, value=code, call=ENERGY, start_s=60.5, end_s=70.5)
    outcome, _, _ = far(measure, [gpu(faults=(fault,))])
    assert outcome.total.errors == 10
    assert abs(outcome.total.error_ratio) <= 0.001
    assert "10 of 302 reads failed" in outcome.findings[0]


def test_a_lost_gpu_is_a_gap_and_the_other_goes_on(far):
    """A GPU that falls off the bus has its energy until then; the other one keeps all of its own."""
    lost = Fault(kind=FaultKind.ERROR, value=GPU_IS_LOST, start_s=150.0)
    outcome, _, _ = far(measure, [gpu(0, constant(300.0), faults=(lost,)), gpu(1, constant(200.0))])
    assert outcome.channels["nvml:0"].coverage_ratio == pytest.approx(0.5, abs=0.01)
    assert outcome.channels["nvml:1"].measured_j == pytest.approx(300 * 200.0, rel=0.001)
    assert any("nvml:0: no data for" in finding for finding in outcome.findings)


@pytest.mark.parametrize("call", [ENERGY, "nvmlDeviceGetUtilizationRates", ""])
def test_a_call_that_hangs_costs_no_energy(far, call):
    """A driver that takes five seconds for a call loses nothing of a constant power."""
    hang = Fault(kind=FaultKind.HANG, value=5.0, call=call, start_s=60.0, end_s=61.3)
    outcome, _, _ = far(measure, [gpu(wave=constant(300.0), faults=(hang,))])
    assert abs(outcome.total.error_ratio) <= 0.001


@pytest.mark.parametrize("unsupported", [(), (ENERGY,)])
def test_garbage_is_not_believed(far, unsupported):
    """An absurd answer costs two seconds at most, and the verdict names it."""
    garbage = [
        Fault(kind=FaultKind.VALUE, value=4e9, call=c, start_s=60.5, end_s=61.5)
        for c in (ENERGY, POWER, AVERAGE)
    ]
    outcome, _, _ = far(measure, [gpu(wave=constant(300.0), unsupported=unsupported, faults=tuple(garbage))])
    assert 298 * 300.0 * 0.999 <= outcome.total.measured_j <= 300 * 300.0 * 1.001
    assert outcome.findings


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        (AVERAGE, ()),
        (INSTANT, (AVERAGE,)),
        ("nvmlDeviceGetSamples", (AVERAGE, INSTANT)),
        (POWER, (AVERAGE, INSTANT, "nvmlDeviceGetSamples")),
    ],
)
def test_a_power_of_0_w_is_a_gap_and_found(far, call, missing):
    """Ten seconds of 0 mW, whichever call says so, are no energy of 0 J: the time is missing and named."""
    silent = Fault(kind=FaultKind.VALUE, value=0, call=call, start_s=60.5, end_s=70.5)
    board = gpu(wave=constant(300.0), unsupported=(ENERGY, *missing), sample_count=120, faults=(silent,))
    outcome, _, _ = far(measure, [board])
    assert outcome.total.coverage_ratio == pytest.approx(290 / 300, abs=0.005)
    assert outcome.total.measured_j == pytest.approx(300.0 * 300 * outcome.total.coverage_ratio, rel=0.001)
    assert any("no data for" in finding for finding in outcome.findings)


@pytest.mark.parametrize(
    ("call", "missing"), [(AVERAGE, ()), (POWER, (AVERAGE, INSTANT, "nvmlDeviceGetSamples"))]
)
def test_a_power_that_freezes_under_a_changing_load_is_found(far, call, missing):
    """The driver shows one value for 20 s of a training; without that nothing is found."""
    frozen = Fault(kind=FaultKind.FROZEN, call=call, start_s=60.5, end_s=80.5)
    wave = square(low_w=100.0, high_w=300.0, period_s=5.0)
    for faults, words in (((), ""), ((frozen,), "the power stood still for")):
        outcome, _, _ = far(measure, [gpu(wave=wave, unsupported=(ENERGY, *missing), faults=faults)])
        assert words in " ".join(outcome.findings)
        assert bool(outcome.findings) is bool(words)


@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
def test_a_driver_that_does_not_start_is_an_absence(far, call):
    """A driver that cannot start or count is a reason, not an exception."""
    outcome, _, absences = far(measure, [gpu()], faults=(Fault(kind=FaultKind.ERROR, value=18, call=call),))
    assert outcome is None
    assert absences[0].sensor == "nvml"


def test_a_frozen_counter_is_found(far):
    """A counter that stands still for minutes while the GPU draws power is a gap, not zero energy."""
    outcome, _, _ = far(measure, [gpu(faults=(Fault(kind=FaultKind.FROZEN, call=ENERGY, start_s=60.0),))])
    assert outcome.findings


@pytest.mark.parametrize(("missing", "words"), [((), "field 185"), ((AVERAGE,), "field 186")])
def test_power_by_field(far, missing, words):
    """A GPU without a counter is measured by the mean of a second, or by the instantaneous power where that lacks."""
    outcome, (channel,), _ = far(measure, [gpu(wave=constant(300.0), unsupported=(ENERGY, POWER, *missing))])
    assert abs(outcome.total.error_ratio) <= 0.01
    assert words in channel.source


def test_a_mean_of_a_second_sees_a_wave_that_a_moment_misses(far):
    """A wave of 1 s, read once a second by field 185, is right to 1 %."""
    wave = square(low_w=100.0, high_w=300.0, period_s=1.0)
    outcome, _, _ = far(measure, [gpu(wave=wave, unsupported=(ENERGY,))])
    assert abs(outcome.total.error_ratio) <= 0.01


def test_the_drivers_samples_mend_a_slow_reader(far):
    """With the driver's buffer of 20 ms samples a fast wave read once a second is right to 1 %."""
    sampled = gpu(
        wave=square(low_w=100.0, high_w=300.0, period_s=1.0),
        unsupported=(ENERGY, INSTANT, AVERAGE),
        sample_count=120,
    )
    plan = Plan(duration_s=300.0, before_s=0.37)
    outcome, _, _ = far(measure, [sampled], plan=plan)
    assert abs(outcome.total.error_ratio) <= 0.01


def cover(library, unsupported, period_s, seeds):
    """Ranges over waves of 10 ms to 20 s, of boards that err by 2.5 % and see a quarter of the time.

    For each the half-width, and whether the whole range holds the truth; all by the waveform that is true.
    """
    found = []
    stub = NvmlStub(library, [])
    stub.load()
    for seed in range(seeds):
        dice = Random(seed)
        low_w, high_w, board = 100.0, 100.0 + dice.choice([50, 200, 300]), dice.gauss(1.0, 0.0255)
        shape = {
            "period_s": 10 ** dice.uniform(-2, 1.3),
            "duty_ratio": dice.uniform(0.2, 0.8),
            "phase_ratio": dice.random(),
        }
        shown = square(low_w=board * low_w, high_w=board * high_w, **shape)
        stub.change([gpu(wave=shown, unsupported=unsupported, power_window_s=0.025)])
        (sensor,) = nvml.probe(site(period_s=period_s)).sensors
        plan = Plan(duration_s=60.0 + seed, period_s=period_s, dither_ratio=0.5, late_ratio=0.3, seed=seed)
        outcome = drive(sensor, square(low_w=low_w, high_w=high_w, **shape), clock=stub.clock, plan=plan)
        sensor.close()
        found.append((outcome.total.half_width_ratio, outcome.total.covers))
    return found


@pytest.mark.parametrize("missing", [(), (AVERAGE,), (AVERAGE, INSTANT)])
@pytest.mark.parametrize(("period_s", "half_width_ratio"), [(0.1, 0.10), (1.0, 0.15)])
def test_stated_ranges_of_power_hold_the_truth(far, missing, period_s, half_width_ratio):
    """By each call for power at least 95 of 100 ranges hold the true energy; at 10 Hz they are 10 % wide at most."""
    found = far(cover, (ENERGY, *missing), period_s, 40)
    assert sum(covers for _, covers in found) >= 0.95 * len(found)
    assert median(width for width, _ in found) <= half_width_ratio


def test_a_mig_slice_has_its_share(far):
    """A slice of 3 of 7 is charged 3/7 of the whole GPU's energy."""
    sliced = gpu(wave=constant(280.0), mig_slices=(3, 4))
    outcome, _, _ = far(measure, [sliced], env={"CUDA_VISIBLE_DEVICES": "MIG-0-0"})
    assert outcome is not None
    assert outcome.series.energy_uj() / 1e6 == pytest.approx(300 * 120.0, rel=0.01)


def test_mig_is_not_charged_with_the_whole_gpu(far):
    """Where MIG is on and nothing is named, the first slice is charged, as a model that may be all of the GPU."""
    outcome, (channel,), _ = far(measure, [gpu(wave=constant(280.0), mig_slices=(3, 4))])
    assert outcome.series.energy_uj() / 1e6 == pytest.approx(300 * 120.0, rel=0.01)
    assert channel.quality is Quality.L0
    assert outcome.total.low_j < 300 * 120.0 < 300 * 280.0 <= outcome.total.high_j


def test_a_grace_hopper_counts_once(far):
    """Of a GH200 the counter is of the module, and the source says so; of other modules the GPU's own power counts."""
    module = {"wave": constant(300.0), "scopes": (1.0, 1.5, 0.1)}
    _, (whole,), _ = far(measure, [gpu(name="NVIDIA GH200 480GB", **module)])
    outcome, (part,), _ = far(measure, [gpu(name="NVIDIA GB200", **module)])
    assert "whole module" in whole.source
    assert "field 185" in part.source
    assert abs(outcome.total.error_ratio) <= 0.01


def check(library, gpus, seconds):
    """What the sensor finds wrong with itself after so many readings, one a second."""
    stub = NvmlStub(library, gpus)
    stub.load()
    (sensor,) = nvml.probe(site()).sensors
    for _ in range(seconds):
        sensor.read(stub.clock)
        stub.clock.advance(1.0)
    sensor.close()
    return findings([sensor])


def test_a_counter_and_a_power_that_disagree_are_found(far):
    """A counter that stands still, or a power 4 times too high, is found in ten seconds; a fast wave is neither."""
    frozen = Fault(kind=FaultKind.FROZEN, call=ENERGY, start_s=0.0)
    wrong = Fault(kind=FaultKind.VALUE, value=1_200_000, call=POWER)
    assert far(check, [gpu(wave=FAST)], 10) == ()
    assert "0 times" in far(check, [gpu(wave=constant(300.0), faults=(frozen,))], 10)[0]
    assert "0.25 times" in far(check, [gpu(wave=constant(300.0), faults=(wrong,))], 10)[0]


def test_three_seconds_of_real_time(far):
    """In real time the counter is right to what it may not have shown yet: power times refresh time."""
    plan = Plan(duration_s=3.0, period_s=0.1)
    outcome, _, _ = far(measure, [gpu(wave=FAST)], plan=plan, is_virtual=False)
    assert abs(outcome.total.measured_j - outcome.total.true_j) <= FAST.power_max_w * 0.11


def tell(library):
    """What the stub answers beyond energy and power, by the real binding."""
    import pynvml

    stub = NvmlStub(
        library, [gpu(wave=constant(400.0), mig_slices=(3, 4), sample_count=10), gpu(1, constant(0.0))]
    )
    stub.load()
    pynvml.nvmlInit()
    stub.clock.advance(20.0)
    hot, cold = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(2))
    part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(hot, 1)
    fields = pynvml.nvmlDeviceGetFieldValues(hot, [185, 186, (186, 1), 83])
    _, samples = pynvml.nvmlDeviceGetSamples(hot, pynvml.NVML_TOTAL_POWER_SAMPLES, 0)
    told = {
        "temperature": (pynvml.nvmlDeviceGetTemperature(hot, 0), pynvml.nvmlDeviceGetTemperatureV(cold, 0)),
        "throttled": [pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(h) for h in (hot, cold)],
        "clock": [pynvml.nvmlDeviceGetClockInfo(h, pynvml.NVML_CLOCK_SM) for h in (hot, cold)],
        "slice": (pynvml.nvmlDeviceGetUUID(part), pynvml.nvmlDeviceGetAttributes(part).gpuInstanceSliceCount),
        "parent": pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part)),
        "fields": [f.value.uiVal if f.nvmlReturn == 0 else f"error {f.nvmlReturn}" for f in fields[:3]],
        "samples": [s.sampleValue.uiVal for s in samples],
        "spacing_us": {b.timeStamp - a.timeStamp for a, b in pairwise(samples)},
    }
    try:
        pynvml.nvmlDeviceGetPowerUsage(part)
    except pynvml.NVMLError_NotSupported:
        told["power of a slice"] = "not supported"
    pynvml.nvmlShutdown()
    return told


def test_what_else_the_library_tells(far):
    """Temperature, clocks, throttling, slices, fields and samples follow the power, through the real binding."""
    assert far(tell) == {
        "temperature": (70, 30),
        "throttled": [4, 1],
        "clock": [1410, 210],
        "slice": ("MIG-1-0", 4),
        "parent": "GPU-0",
        "fields": [400_000, 400_000, "error 3"],
        "samples": [400_000] * 10,
        "spacing_us": {20_000},
        "power of a slice": "not supported",
    }


def watch(library):
    """What stands beside the power of a GPU at its limit."""
    stub = NvmlStub(library, [gpu(wave=constant(400.0))])
    stub.load()
    found = nvml.probe(site())
    stub.clock.advance(20.0)
    told = observe(found.observers)
    found.sensors[0].close()
    return told, observe(found.observers)


def test_what_stands_beside_power(far):
    """70 degrees, full clocks, held down by the power limit; nothing any more once the driver is given back."""
    told, after = far(watch)
    assert told == {
        "nvml:0/temperature_c": 70.0,
        "nvml:0/fan_percent": 100.0,
        "nvml:0/clock_sm_mhz": 1410.0,
        "nvml:0/clock_memory_mhz": 1593.0,
        "nvml:0/limited_by_power": 1.0,
        "nvml:0/limited_by_heat": 0.0,
    }
    assert after == {}


def test_doctor_sees_a_simulated_gpu(library, tmp_path):
    """A process with the stub's environment finds the GPU by the driver's own name."""
    stub = NvmlStub(library, [gpu()], is_virtual=False)
    home = {"MLFLOW_CARBON_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_carbon", "doctor"],
        env=os.environ | stub.environment() | home,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Simulated A100" in done.stdout, done.stdout + done.stderr

"""Our own meter against known waveforms in virtual time: minutes take milliseconds, through the real NVML binding.

Run by sampler.py in a process of its own, since `pynvml` keeps the first library it loads:
`python own_virtual.py [--quick]` prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from own_phases import phase_errors
from own_session import memory_growth, reading_ms

from mlflow_carbon.core.intervals import integrate
from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.sensors import nvml, rapl
from mlflow_carbon.sensors.contract import Site
from mlflow_carbon.settings import Settings
from mlflow_carbon.testing import (
    Fault,
    FaultKind,
    Meter,
    NvmlStub,
    Plan,
    PowercapTree,
    Shown,
    SimulatedGpu,
    VirtualClock,
    Waveform,
    Zone,
    compile_stub,
    constant,
    drive,
    sine,
    square,
    training,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_carbon.testing import Outcome

COUNTER, POWER = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"
LOAD, SAMPLES = "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetSamples"
AVERAGE, INSTANT = "NVML_FI_DEV_POWER_AVERAGE", "NVML_FI_DEV_POWER_INSTANT"
WAYS = {
    "counter": ((COUNTER, POWER), ()),
    "field 185": ((AVERAGE,), (COUNTER,)),
    "field 186": ((INSTANT,), (COUNTER, AVERAGE)),
    "buffer": ((SAMPLES,), (COUNTER, AVERAGE, INSTANT)),
    "power": ((POWER,), (COUNTER, AVERAGE, INSTANT, SAMPLES)),
}
"""How a GPU is read: the calls of each way, and what a GPU must lack for it to be taken."""
REFRESH_S = 0.1
ROUNDS = 7
# What a sensor might let through: that it does at all is what is looked for.
_ANY = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def waves(phase: float) -> dict[str, Waveform]:
    """The waveforms of 0.13 to 80 s, at a phase."""
    return {
        "constant": constant(300.0),
        "80 s sine": sine(mean_w=200.0, amplitude_w=100.0, period_s=80.0, phase_ratio=phase),
        "5 s square": square(low_w=100.0, high_w=300.0, period_s=5.0, phase_ratio=phase),
        "1 s square": square(low_w=100.0, high_w=300.0, period_s=1.0, phase_ratio=phase),
        "0.35 s square": square(low_w=100.0, high_w=300.0, period_s=0.35, duty_ratio=0.7, phase_ratio=phase),
        "0.13 s square": square(low_w=100.0, high_w=300.0, period_s=0.13, phase_ratio=phase),
        "training": training(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Beats(Plan):
    """The sampler's own dither: each reading up to half a period before or after a steady beat."""

    def pauses_s(self) -> Iterator[float]:
        """Time from reading to reading; together `duration_s`."""
        dice, now_s, beat_s = Random(self.seed), 0.0, 0.0
        while (beat_s := beat_s + self.period_s) < self.duration_s - self.period_s / 2:
            read_s = beat_s + (dice.random() - 0.5) * self.period_s
            yield read_s - now_s
            now_s = read_s
        yield self.duration_s - now_s


class Gpus:
    """Drives the NVML sensor over simulated GPUs."""

    def __init__(self, folder: Path) -> None:
        self._stub = NvmlStub(compile_stub(folder), [SimulatedGpu()])
        self._stub.load()
        self._begin_s = 0.0

    def measure(self, gpus: Sequence[SimulatedGpu], plan: Plan) -> Outcome:
        """What comes of them; by what their sensor shows where they have no energy counter."""
        self._stub.change(gpus)
        site = Site(settings=Settings(period_s=plan.period_s), root=Path("/nonexistent"), env={})
        (sensor,) = nvml.probe(site).sensors
        truths = {}
        for number, one in enumerate(gpus):
            shown = Shown(meter=Meter(truth=one.waveform, refresh_s=REFRESH_S, window_s=one.power_window_s))
            truths[f"nvml:{number}"] = shown if COUNTER in one.unsupported else one.waveform
        try:
            return drive(sensor, truths, clock=self._stub.clock, plan=plan)
        finally:
            sensor.close()

    def reading_ms(self, number: int) -> list[float]:
        """CPU of passes over one GPU and two RAPL zones, with all bookkeeping."""
        self._stub.change([board(constant(300.0))])
        meter = Meter(truth=constant(150.0), refresh_s=0.001)
        names = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "dram"}
        with tempfile.TemporaryDirectory() as folder:
            PowercapTree(Path(folder), [Zone(path=p, name=n, meter=meter) for p, n in names.items()])
            site = Site(settings=Settings(), root=Path(folder), env={})
            sensors = (*nvml.probe(site).sensors, *rapl.probe(site).sensors)
            found = reading_ms(sensors, self._stub.clock, number)
            for sensor in sensors:
                sensor.close()
            return found

    @property
    def now_s(self) -> float:
        """The time of the waveforms."""
        return (self._stub.clock.monotonic_ns() - self._stub.clock.origin_ns) / NS_PER_S


def board(
    wave: Waveform, number: int = 0, *, has_counter: bool = True, faults: Sequence[Fault] = ()
) -> SimulatedGpu:
    """A GPU whose power sensor shows 25 ms of each 100 ms."""
    unsupported = () if has_counter else (COUNTER,)
    return SimulatedGpu(
        waveform=wave,
        uuid=f"GPU-{number}",
        unsupported=unsupported,
        faults=tuple(faults),
        power_window_s=0.025,
    )


def accuracy(gpus: Gpus, seeds: int) -> dict[str, Any]:
    """Errors of windows of a minute: counter at 1 Hz, power at 10 Hz, and what is stated about them."""
    found: dict[str, Any] = {}
    for kind, period_s in (("counter", 1.0), ("power", 0.1)):
        rows = []
        for seed in range(seeds):
            dice = Random(seed)
            for name, wave in waves(dice.random()).items():
                plan = Plan(
                    duration_s=60.0 + seed,
                    period_s=period_s,
                    late_ratio=0.3,
                    seed=seed,
                    before_s=dice.random(),
                )
                total = (outcome := gpus.measure([board(wave, has_counter=kind == "counter")], plan)).total
                sampling_j = sum(outcome.series.sampling_uj.values()) / 1e6
                rows.append(
                    {
                        "wave": name,
                        "error_ratio": total.error_ratio,
                        "error_j": total.measured_j - total.true_j,
                        "covers": total.covers,
                        "half_width_ratio": total.half_width_ratio,
                        "sampling_ratio": sampling_j / total.true_j,
                        "sampling_covers": abs(total.measured_j - total.true_j) <= sampling_j + 1e-3,
                    }
                )
        found[kind] = rows
    return found


def dithered(gpus: Gpus, seeds: int) -> list[float]:
    """Errors of ten minutes of power once a second, over a wave in step with it."""
    found = []
    for seed in range(seeds):
        wave = square(low_w=100.0, high_w=300.0, period_s=1.0, phase_ratio=Random(seed).random())
        plan = Beats(duration_s=600.0, seed=seed)
        found.append(gpus.measure([board(wave, has_counter=False)], plan).total.error_ratio)
    return found


def devices(gpus: Gpus) -> dict[str, float]:
    """Error of N GPUs of different power, by counter and by power."""
    return {
        f"{count}, {'counter' if has_counter else 'power'}": gpus.measure(
            [board(constant(100.0 + 10 * i), i, has_counter=has_counter) for i in range(count)],
            Plan(duration_s=60.0),
        ).total.error_ratio
        for count in (1, 4, 16)
        for has_counter in (True, False)
    }


def windows(seconds: float) -> dict[str, Any]:
    """Windows of a package that wraps, fails now and then and is read late, with psys around it."""
    faults = tuple(
        Fault(kind=FaultKind.ERROR, start_s=7.0 * k, end_s=7.0 * k + 0.25) for k in range(1, int(seconds / 7))
    )
    wave = square(low_w=50.0, high_w=150.0, period_s=0.35, duty_ratio=0.7)
    package = Meter(truth=wave, refresh_s=0.001, range_uj=5_000_000_000, faults=faults)
    zones = [
        Zone(path="intel-rapl:0", name="package-0", meter=package),
        Zone(path="intel-rapl:1", name="psys", meter=Meter(truth=constant(400.0), refresh_s=0.001)),
    ]
    outcome = _tree(zones, Plan(duration_s=seconds, period_s=0.1, late_ratio=0.9), {"rapl:package-0": wave})
    (channel,) = outcome.series.parts()
    found = list(integrate(channel, (s for s in outcome.samples if s.channel == channel.id)))
    most_uj = [(channel.power_max_w or 2000.0) * (w.duration_ns / 1000 + 1e5) for w in found]
    bad = [w for w, most in zip(found, most_uj, strict=True) if not 0 <= (w.energy_uj or 0) <= most]
    mirrors = [
        Zone(
            path=f"intel-rapl:{i}",
            name=f"package-{i}",
            meter=Meter(truth=constant(68.0), refresh_s=0.001, first_uj=10**9),
        )
        for i in (0, 1)
    ]
    mirrored = _tree(mirrors, Plan(duration_s=300.0), {"rapl:package-0": constant(68.0)})
    return {
        "windows": len(found),
        "impossible": len(bad),
        "error_ratio": outcome.total.error_ratio,
        "mirrored_error_ratio": mirrored.series.energy_uj() / 1e6 / (300 * 68.0) - 1,
    }


def _tree(zones: Sequence[Zone], plan: Plan, truths: dict[str, Waveform]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        tree, clock = PowercapTree(Path(folder), zones), VirtualClock(latency_ns=2000)
        (sensor,) = rapl.probe(Site(settings=Settings(), root=Path(folder), env={})).sensors
        try:
            return drive(sensor, truths, clock=clock, plan=plan, before_read=tree.show)
        finally:
            sensor.close()


def faults(gpus: Gpus) -> list[dict[str, Any]]:
    """Every kind of failure at every call of the NVML sensor: what it did to a minute of 300 W."""
    kinds = {
        "error 999": (FaultKind.ERROR, 999),
        "GPU is lost": (FaultKind.ERROR, 15),
        "hangs 5 s": (FaultKind.HANG, 5),
        "answers 4e9": (FaultKind.VALUE, 4e9),
        "answers 0": (FaultKind.VALUE, 0),
        "frozen": (FaultKind.FROZEN, 0),
    }
    found = []
    for way, (calls, unsupported) in WAYS.items():
        for call, (name, (kind, value)) in product((*calls, LOAD), kinds.items()):
            begin_s = gpus.now_s + 20.5
            fault = Fault(kind=kind, value=value, call=call, start_s=begin_s, end_s=begin_s + 10)
            gpu = replace(board(constant(300.0), faults=[fault]), unsupported=unsupported, sample_count=120)
            row: dict[str, Any] = {"way": way, "call": call, "fault": name}
            try:
                outcome = gpus.measure([gpu], Plan(duration_s=60.0))
                row |= {"error_ratio": outcome.total.error_ratio, "findings": list(outcome.findings)}
            except _ANY as error:
                row |= {"raised": repr(error)}
            found.append(row)
    return found


def main(*, quick: bool) -> dict[str, Any]:
    """Everything."""
    with tempfile.TemporaryDirectory() as folder:
        gpus = Gpus(Path(folder))
        found = {
            "accuracy": accuracy(gpus, 4 if quick else 20),
            "dithered": dithered(gpus, 5 if quick else 40),
            "devices": devices(gpus),
            "reading_ms": [median(gpus.reading_ms(500)) for _ in range(ROUNDS)],
            "windows": windows(200.0 if quick else 1050.0),
            "faults": faults(gpus),
            "phases": phase_errors(2 if quick else 10),
            "memory": memory_growth(1 if quick else 2),
        }
    median_error = median(abs(r["error_ratio"]) for r in found["accuracy"]["counter"])
    print(f"counter: median error {median_error:.2e}", file=sys.stderr)
    return found


if __name__ == "__main__":
    print(json.dumps(main(quick="--quick" in sys.argv)))

"""Every meter on the same simulated machine: how far its energy is off, in real time.

A meter is asked for the energy of a block. It may count from when it was told to start or from when it had
started, and likewise at the end: whatever lies between the two is taken as right, so that only what no choice of
the window explains is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Any

from peer_world import OURS, PEERS, Driver, Scene

from mlflow_carbon.testing import (
    Fault,
    FaultKind,
    Meter,
    SimulatedGpu,
    Waveform,
    Zone,
    constant,
    sine,
    square,
)

COUNTER, POWER = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"
AT_ONCE = 6
OURS_10_HZ = f"{OURS}, 10 Hz"
WITH_COUNTER = (OURS, "CodeCarbon", "Zeus")
ALL = (OURS, *PEERS)
WITH_RAPL = (OURS, "CodeCarbon", "Zeus", "carbontracker", "perun")
_RANGE_UJ = 1_500_000_000  # at 150 W a wrap each 10 s

Make = Callable[[Random], Scene]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scene and what is judged in it.

    Attributes:
        name: For people.
        make: The scene, at a random phase.
        part: Whose energy is judged: `gpu` or `cpu`.
        tools: Who is judged.
        repeats: How often.
        seconds: Length of the block.
        truths: Whose waveforms are the truth of a part, where not those of its own name; by tool, `""`: the others.
        goal: The goal it belongs to.
        limit_ratio: How far ours may be off.
    """

    name: str
    make: Make
    part: str = "gpu"
    tools: Sequence[str] = ALL
    repeats: int = 1
    seconds: float = 10.0
    truths: Mapping[str, Sequence[str]] = field(default_factory=dict)
    goal: str = "G6b"
    limit_ratio: float = 0.01

    def error_ratio(self, tool: str, result: Mapping[str, Any]) -> float | None:
        """How far off it is; None where it told nothing."""
        value_j, (inner_j, outer_j, *_) = self._told_j(tool, result), self._true_j(tool, result)
        if value_j is None:
            return None
        if inner_j <= value_j <= outer_j:
            return 0.0
        return value_j / (inner_j if value_j < inner_j else outer_j) - 1

    def later_error_ratio(self, tool: str, result: Mapping[str, Any]) -> float | None:
        """How far off it is if the time before its first reading is left out of the truth."""
        value_j, truths_j = self._told_j(tool, result), self._true_j(tool, result)
        return None if value_j is None else value_j / truths_j[2] - 1

    def _names(self, tool: str) -> Sequence[str]:
        return self.truths.get(tool, self.truths.get("", (self.part,)))

    def _told_j(self, tool: str, result: Mapping[str, Any]) -> float | None:
        """Memory counts only where it has a meter: what a model says of it is not judged here."""
        told = result.get("energy_j", {})
        parts = ("cpu", "dram") if "dram" in self._names(tool) else (self.part,)
        found = [told[part] for part in parts if part in told]
        return sum(found) if found else None

    def _true_j(self, tool: str, result: Mapping[str, Any]) -> list[float]:
        sums = zip(*(result["true_j"].get(name, [0.0] * 3) for name in self._names(tool)), strict=True)
        return [sum(values) for values in sums]


def slow(dice: Random) -> Waveform:
    """80 s."""
    return sine(mean_w=200.0, amplitude_w=100.0, period_s=80.0, phase_ratio=dice.random())


def second(dice: Random) -> Waveform:
    """One second, in step with a meter that reads once a second."""
    return square(low_w=100.0, high_w=300.0, period_s=1.0, phase_ratio=dice.random())


def fast(dice: Random) -> Waveform:
    """A training step."""
    return square(low_w=100.0, high_w=300.0, period_s=0.35, duty_ratio=0.7, phase_ratio=dice.random())


def gpu(
    waveform: Waveform, *, number: int = 0, has_counter: bool = True, faults: Sequence[Fault] = ()
) -> SimulatedGpu:
    """A GPU whose sensor shows 25 ms of each 100 ms."""
    return SimulatedGpu(
        waveform=waveform,
        uuid=f"GPU-{number:08d}-0000-0000-0000-000000000000",
        unsupported=() if has_counter else (COUNTER,),
        faults=tuple(faults),
        power_window_s=0.025,
    )


def zone(path: str, name: str, power_w: float, **changes: Any) -> Zone:
    """A powercap zone of constant power."""
    return Zone(
        path=path, name=name, meter=Meter(**({"truth": constant(power_w), "refresh_s": 0.001} | changes))
    )


def _one(wave: Callable[[Random], Waveform], *, has_counter: bool) -> Make:
    return lambda dice: Scene(gpus=[gpu(wave(dice), has_counter=has_counter)])


def _many(count: int) -> Make:
    return lambda _dice: Scene(gpus=[gpu(constant(300.0), number=n) for n in range(count)])


def _failing(*, has_counter: bool) -> Make:
    wave = constant(300.0)
    faults = [Fault(kind=FaultKind.ERROR, value=999, call=call) for call in (COUNTER, POWER)]
    return lambda _dice: Scene(
        gpus=[gpu(wave, has_counter=has_counter)],
        failing=[gpu(wave, has_counter=has_counter, faults=faults)],
    )


def _zones(*zones: Zone, fail: bool = False) -> Make:
    return lambda _dice: Scene(zones=zones, zones_fail=fail)


_PACKAGE = zone("intel-rapl:0", "package-0", 150.0)
_DRAM = zone("intel-rapl:0:0", "dram", 20.0)
_CORE = zone("intel-rapl:0:1", "core", 40.0)
_PSYS = zone("intel-rapl:1", "psys", 300.0)
_BOTH = {"CodeCarbon": ("package",), "": ("package", "dram")}
_ALONE = {"": ("package",)}


# What a counter has not shown yet when a block ends: 300 W x 0.1 s of 2 kJ.
_REFRESH_RATIO = 0.015


def cases(*, quick: bool) -> list[Case]:
    """What every meter is judged by; with `quick` a few of them."""
    found = [*_wave_cases(), *_device_cases(), *_rapl_cases()]
    few = ("1 s square, power", "4 x GPU", "RAPL: package")
    return [case for case in found if case.name.startswith(few)] if quick else found


def _wave_cases() -> list[Case]:
    waves = {"80 s sine": slow, "1 s square": second, "0.35 s square": fast}
    counter = [
        Case(
            name=f"{name}, energy counter",
            make=_one(wave, has_counter=True),
            tools=WITH_COUNTER,
            goal="G6a",
            limit_ratio=_REFRESH_RATIO,
        )
        for name, wave in waves.items()
    ]
    power = [
        Case(
            name=f"{name}, power only",
            make=_one(wave, has_counter=False),
            tools=(OURS, OURS_10_HZ, *PEERS),
            repeats=3 if name == "1 s square" else 2,  # where the phase decides most
        )
        for name, wave in waves.items()
    ]
    return counter + power


def _device_cases() -> list[Case]:
    several = [
        Case(
            name=f"{count} x GPU of 300 W",
            make=_many(count),
            seconds=6.0,
            goal="G6d",
            limit_ratio=_REFRESH_RATIO,
        )
        for count in (1, 4, 16)
    ]
    failing = [
        Case(
            name=f"3 s of failed reads, {name}",
            make=_failing(has_counter=has_counter),
            tools=tools,
            goal="G6e",
            limit_ratio=_REFRESH_RATIO,
        )
        for name, has_counter, tools in (("energy counter", True, WITH_COUNTER), ("power only", False, ALL))
    ]
    return several + failing


def _rapl_cases() -> list[Case]:
    wrapping = zone("intel-rapl:0", "package-0", 150.0, range_uj=_RANGE_UJ)
    mirrors = [zone(f"intel-rapl:{i}", f"package-{i}", 68.0, first_uj=10**9) for i in (0, 1)]
    scenes = {
        "package, DRAM beside it, core in it, psys around it": _zones(_PACKAGE, _DRAM, _CORE, _PSYS),
        "a wrap each 10 s": _zones(wrapping),
        "3 s of failed reads (EIO)": _zones(_PACKAGE, fail=True),
        "a die that mirrors another": _zones(*mirrors),
    }
    return [
        Case(
            name=f"RAPL: {name}",
            make=make,
            part="cpu",
            tools=WITH_RAPL,
            truths=_BOTH if name.startswith("package") else _ALONE,
            seconds=12.0,
            goal="G6e",
            limit_ratio=0.001,
        )
        for name, make in scenes.items()
    ]


def judge(
    driver: Driver, which: Sequence[Case], tools: Sequence[str], *, quick: bool
) -> list[dict[str, Any]]:
    """Run every tool on every case, some at once: accuracy is judged here, not CPU time."""
    jobs = [
        (case, tool, repeat)
        for repeat in range(1 if quick else max(c.repeats for c in which))
        for case in which
        if repeat < case.repeats
        for tool in case.tools
        if tool in tools or tool == OURS_10_HZ
    ]

    def run(job: tuple[Case, str, int]) -> dict[str, Any]:
        case, tool, repeat = job
        scene = case.make(Random(f"{case.name}-{repeat}"))
        options = {"seconds": case.seconds, "period_s": 0.1 if tool == OURS_10_HZ else 1.0}
        result = driver.run(OURS if tool == OURS_10_HZ else tool, scene, options)
        errors: dict[str, float | None] = {"error_ratio": None, "later_error_ratio": None}
        if "error" not in result:
            errors["error_ratio"] = case.error_ratio(tool, result)
            errors["later_error_ratio"] = case.later_error_ratio(tool, result)
        return {"case": case.name, "tool": tool, "repeat": repeat, **errors, **result}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, jobs))


def cell(results: Sequence[Mapping[str, Any]], key: str = "error_ratio") -> str:
    """What a table shows of one tool on one case: the median error and the worst, or why there is none."""
    errors = [100 * r[key] for r in results if r[key] is not None]
    if not results:
        return "-"
    reason = next((r["error"] for r in results if "error" in r), "")
    failed = f"failed: {reason[:90]}".replace("|", "/")
    if not errors:
        return failed if reason else "it told no energy"
    worst = max(errors, key=abs)
    text = f"{worst:+.1f} %" if len(errors) == 1 else f"{median(errors):+.1f} % (worst {worst:+.1f} %)"
    return f"{text}; once {failed}" if reason else text

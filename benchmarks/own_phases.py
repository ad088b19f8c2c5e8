"""Energy of phases by our own bookkeeping against phases whose energy is known, in virtual time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import floor
from random import Random
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.recording import Recording
from mlflow_carbon.core.series import Sample, Tick
from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.testing import fake_channel

if TYPE_CHECKING:
    from mlflow_carbon.core.phases import PhaseRow

POWERS_W = {"data": 90.0, "forward": 250.0, "backward": 320.0, "update": 200.0}
NOISE_RATIO = 0.15
LAG_S = 0.025
REFRESH_S = 0.1
LENGTH_S = 120.0
TAIL_S = 0.2
LEAST_RATIO = 0.05  # of the energy: phases below it are not judged
STEPS_S = {"phases of 3 refreshes and more": 1.3, "31 ms step": 0.031, "310 ms step": 0.31}


def phase_errors(seeds: int) -> list[dict[str, Any]]:
    """The worst phase of a training, for steps of several lengths, at 1 Hz and at 10 Hz."""
    return [
        {"steps": name, "period_s": period_s, "seed": seed, **_one(step_s, period_s, seed)}
        for name, step_s in STEPS_S.items()
        for period_s in (1.0, 0.1)
        for seed in range(seeds)
    ]


def _one(step_s: float, period_s: float, seed: int) -> dict[str, Any]:
    spans = _training(step_s, Random(seed))
    counter = _Counter(spans)
    channel = fake_channel()
    recording = Recording([channel], start_ns=0, wall_offset_ns=0, period_s=period_s)
    reads_s = [k * period_s for k in range(round(LENGTH_S / period_s) + 1)]
    inside, ends_s = iter(_inside(spans, reads_s)), [span.end_s for span in spans]
    for number, t_s in enumerate(reads_s):
        t_ns = round(t_s * NS_PER_S)
        sample = Sample(channel=channel.id, t_mono_ns=t_ns, energy_uj=counter.shown_uj(t_s))
        tick = Tick(seq=number, t_mono_ns=t_ns, t_wall_ns=t_ns, samples=(sample,))
        recording.add(tick, next(inside) if number else {}, tail=_tail(spans, ends_s, t_s))
    entries = {name: sum(s.name == name for s in spans) for name in POWERS_W}
    recording.count_entries(entries)
    rows = {row.phase: row for row in recording.phases().rows}
    true_j = {name: sum(s.energy_j for s in spans if s.name == name) for name in POWERS_W}
    whole_j = sum(true_j.values())
    total_j = recording.series().energy_uj() / 1e6
    errors = {n: abs(rows[n].energy_j / j - 1) for n, j in true_j.items() if j >= LEAST_RATIO * whole_j}
    return {
        "worst_error_ratio": max(errors.values()),
        "closure_ratio": abs(sum(row.energy_j for row in rows.values()) / total_j - 1),
        "phases": len(true_j),
        "low": sum(rows[name].confidence == "low" for name in true_j),
        "held": sum(_holds(rows[name], j) for name, j in true_j.items()),
    }


def _holds(row: PhaseRow, true_j: float) -> bool:
    """Whether the stated 95 % interval holds the truth; what is called low states none."""
    return row.confidence != "low" and abs(row.energy_j - true_j) <= 1.96 * row.energy_error_j + true_j / 1000


@dataclass(frozen=True, slots=True)
class _Span:
    """One stay in a phase: constant power from one time to another."""

    name: str
    begin_s: float
    end_s: float
    power_w: float

    @property
    def energy_j(self) -> float:
        return self.power_w * (self.end_s - self.begin_s)


class _Counter:
    """An energy counter that shows the energy of a lag ago, now and then."""

    def __init__(self, spans: list[_Span]) -> None:
        self._begins_s = [s.begin_s for s in spans]
        self._spans = spans
        self._before_j = [0.0, *accumulate(s.energy_j for s in spans)]

    def shown_uj(self, t_s: float) -> int:
        """What it shows; before the first phase there was no power."""
        at_s = floor(t_s / REFRESH_S + 1e-9) * REFRESH_S - LAG_S
        if at_s <= 0:
            return 0
        index = bisect_right(self._begins_s, at_s) - 1
        energy_j = self._before_j[index] + self._spans[index].power_w * (at_s - self._begins_s[index])
        return round(energy_j * 1000) * 1000


def _training(step_s: float, dice: Random) -> list[_Span]:
    """Phases in turn, each stay with a length and a power of its own."""
    spans, now_s = [], 0.0
    while now_s < LENGTH_S:
        for name, power_w in POWERS_W.items():
            end_s = min(LENGTH_S, now_s + step_s / len(POWERS_W) * dice.uniform(0.95, 1.05))
            if end_s > now_s:
                spans.append(_Span(name, now_s, end_s, power_w * max(0.1, dice.gauss(1.0, NOISE_RATIO))))
            now_s = end_s
    return spans


def _tail(spans: list[_Span], ends_s: list[float], t_s: float) -> list[tuple[str, int, int]]:
    """Phases of the 200 ms before a reading, latest first, in microseconds before it, as the phase clock tells."""
    found = []
    for span in spans[bisect_right(ends_s, t_s - TAIL_S) :]:
        if span.begin_s >= t_s:
            break
        older_us = round(1e6 * min(TAIL_S, t_s - span.begin_s))
        newer_us = round(1e6 * max(0.0, t_s - span.end_s))
        if older_us > newer_us:
            found.append((span.name, older_us, newer_us))
    return found[::-1]


def _inside(spans: list[_Span], reads_s: list[float]) -> list[dict[str, int]]:
    """Nanoseconds of each phase between readings, as the phase clock tells them."""
    found, first = [], 0
    for a_s, b_s in pairwise(reads_s):
        here: dict[str, int] = {}
        while first < len(spans) and spans[first].end_s <= a_s:
            first += 1
        index = first
        while index < len(spans) and (span := spans[index]).begin_s < b_s:
            shared_ns = round((min(b_s, span.end_s) - max(a_s, span.begin_s)) * NS_PER_S)
            here[span.name] = here.get(span.name, 0) + max(0, shared_ns)
            index += 1
        found.append(here)
    return found

"""Rows of the table of meters that need virtual time, and so are about ours alone."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from peer_world import OURS
from sampler_rows import Row, p95, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

POWER_MAX_W, REFRESH_S = 300.0, 0.1
# Off by more than a counter has not shown yet at the ends of a minute.
_FAULT_RATIO = 0.001


def virtual_rows(found: Mapping[str, Any]) -> list[Row]:
    """G6, G7, G9 and G12 by the real NVML binding and powercap files, in virtual time."""
    hot = found["reading_ms"]
    what = "the same, hot and with no other thread: reading, journal and bookkeeping"
    first = _row("G1", what, "<= 0.25 ms", short(hot, "ms"), is_met=median(hot) <= 0.25)
    return [first, *_accuracy(found), *_stated(found["accuracy"]), *_events(found), *_phases(found["phases"])]


def _row(goal: str, what: str, target: str, text: str, *, is_met: bool) -> Row:
    return Row(goal=goal, what=what, target=target, is_met=is_met, cells={OURS: text})


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.3g} %"


def _accuracy(found: Mapping[str, Any]) -> list[Row]:
    counter, power = found["accuracy"]["counter"], found["accuracy"]["power"]
    errors = {kind: [abs(r["error_ratio"]) for r in rows] for kind, rows in found["accuracy"].items()}
    beyond = max(abs(r["error_j"]) for r in counter)
    steady = max(abs(r["error_ratio"]) for r in power if r["wave"] == "constant")
    dithered = [abs(e) for e in found["dithered"]]
    worst_n = max(abs(e) for e in found["devices"].values())
    n = len(counter)
    bound_j = POWER_MAX_W * REFRESH_S
    return [
        _row(
            "G6a",
            f"counter at 1 Hz, {n} windows of 1 min and more: p95 error",
            "<= 0.1 %",
            _percent(p95(errors["counter"])),
            is_met=p95(errors["counter"]) <= 0.001,
        ),
        _row(
            "G6a",
            "the same, the largest error",
            f"<= power x refresh = {bound_j:g} J",
            f"{beyond:.3g} J",
            is_met=beyond <= bound_j,
        ),
        _row(
            "G6b",
            f"power at 10 Hz, {n} windows, against what the sensor shows: p95 error",
            "<= 1 %",
            _percent(p95(errors["power"])),
            is_met=p95(errors["power"]) <= 0.01,
        ),
        _row("G6b", "the same, constant power", "<= 0.1 %", _percent(steady), is_met=steady <= 0.001),
        _row(
            "G6c",
            f"power at 1 Hz, dithered, 10 min of a 1 s square, {len(dithered)} times: p95 error",
            "<= 5 %",
            _percent(p95(dithered)),
            is_met=p95(dithered) <= 0.05,
        ),
        _row(
            "G6d",
            "1, 4 and 16 GPUs, by counter and by power: largest error",
            "<= 0.1 %",
            _percent(worst_n),
            is_met=worst_n <= 0.001,
        ),
    ]


def _stated(accuracy: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    rows = []
    for kind, what, limit in (("counter", "counter", 0.01), ("power", "power at 10 Hz", 0.1)):
        got = accuracy[kind]
        for covers, width, name in (
            ("covers", "half_width_ratio", "whole stated range (the board's 5 % in it)"),
            ("sampling_covers", "sampling_ratio", "of it what reading leaves open"),
        ):
            share = sum(r[covers] for r in got) / len(got)
            wide = median(r[width] for r in got)
            rows.append(
                _row(
                    "G6f",
                    f"{what}: {name} covers the truth",
                    ">= 95 %",
                    _percent(share),
                    is_met=share >= 0.95,
                )
            )
            rows.append(
                _row(
                    "G6f",
                    f"{what}: {name}, median half-width",
                    f"<= {100 * limit:g} %",
                    _percent(wide),
                    is_met=wide <= limit,
                )
            )
    return rows


def _events(found: Mapping[str, Any]) -> list[Row]:
    windows, memory = found["windows"], found["memory"]
    raised = [f for f in found["faults"] if "raised" in f]
    silent = [
        f
        for f in found["faults"]
        if "raised" not in f and abs(f["error_ratio"]) > _FAULT_RATIO and not f["findings"]
    ]
    names = "; ".join(f"{f['call']} {f['fault']} ({_percent(f['error_ratio'])})" for f in silent)
    wrong, mirrored = abs(windows["error_ratio"]), abs(windows["mirrored_error_ratio"])
    total = len(found["faults"])
    return [
        _row(
            "G6e",
            f"impossible windows of {windows['windows']}: wraps, failed and late reads, psys",
            "0",
            str(windows["impossible"]),
            is_met=windows["impossible"] == 0,
        ),
        _row("G6e", "the same, error of the total", "<= 0.1 %", _percent(wrong), is_met=wrong <= 0.001),
        _row(
            "G6e",
            "a die that mirrors another, error of the total",
            "<= 0.1 %",
            _percent(mirrored),
            is_met=mirrored <= 0.001,
        ),
        _row(
            "G9",
            "memory that an hour at 1 Hz adds",
            "<= 1 MB",
            f"{memory['mb_per_hour']:.3g} MB",
            is_met=memory["mb_per_hour"] <= 1,
        ),
        _row(
            "G12",
            f"{total} faults at NVML calls: raised into the caller",
            "0",
            str(len(raised)),
            is_met=not raised,
        ),
        _row(
            "G12",
            "the same: energy of a minute off by more than 0.1 % and no finding",
            "0",
            f"{len(silent)}{': ' if silent else ''}{names}",
            is_met=not silent,
        ),
    ]


def _phases(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    found = []
    closure = max(r["closure_ratio"] for r in rows)
    found.append(
        _row(
            "G7",
            "sum of the phases over the total, largest gap",
            "<= 0.1 %",
            _percent(closure),
            is_met=closure <= 0.001,
        )
    )
    for period_s, name in ((1.0, "1 Hz"), (0.1, "10 Hz")):
        long, shorter = (
            [r for r in rows if r["period_s"] == period_s and r["steps"].startswith("phases of 3") == is_long]
            for is_long in (True, False)
        )
        worst = p95(r["worst_error_ratio"] for r in long)
        found.append(
            _row(
                "G7",
                f"worst phase, phases of 3 refreshes and more, noise 15 %, lag 25 ms, at {name}: p95",
                "<= 10 %",
                _percent(worst),
                is_met=worst <= 0.1,
            )
        )
        found += [
            _held("G7", f"the same: stated 95 % intervals that hold, at {name}", long, 0.95),
            _held("G7b", f"shorter phases: stated 95 % intervals that hold, at {name}", shorter, 0.9),
        ]
    return found


def _held(goal: str, what: str, runs: Sequence[Mapping[str, Any]], least: float) -> Row:
    """Of the phases that state an interval; the others are labelled low confidence."""
    low, phases, held = (sum(r[name] for r in runs) for name in ("low", "phases", "held"))
    share = held / (phases - low) if phases > low else 1.0
    text = f"{_percent(share)}; labelled low confidence: {low} of {phases}"
    return _row(goal, what, f">= {100 * least:g} %, or labelled low", text, is_met=share >= least)

"""The rows of the table of meters: a goal, its target, what ours does, the verdict, and what the others do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from peer_costs import per_sample_ms, share_percent, slowdown_percent, stage_ms
from peer_waves import OURS_10_HZ, Case, cell
from peer_world import OURS, PEERS
from record import PAGES, median_interval, three

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = ("Goal", "What", "Target", OURS, "Verdict", *PEERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        goal: Its number; empty where it only compares.
        what: What was measured.
        target: In words; empty where there is none.
        is_met: None: no verdict.
        cells: What each tool does, in words.
    """

    goal: str
    what: str
    target: str = ""
    is_met: bool | None = None
    cells: Mapping[str, str] = field(default_factory=dict)

    def texts(self) -> tuple[str, ...]:
        """As `HEAD` names them."""
        verdict = "" if self.is_met is None else "met" if self.is_met else "**missed**"
        ours = self.cells.get(OURS, "")
        return (self.goal, self.what, self.target, ours, verdict, *(self.cells.get(p, "-") for p in PEERS))


def short(values: Sequence[float], unit: str) -> str:
    """Median and range."""
    if not values:
        return "failed"
    middle = f"{three(median(values))} {unit}".strip()
    return f"{middle} ({three(min(values))} to {three(max(values))})"


def p95(values: Iterable[float]) -> float:
    """The value that 95 of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


Samples = Mapping[str, Sequence[Mapping[str, Any]]]
Values = Callable[[Sequence[Mapping[str, Any]]], list[float]]


def cost_rows(found: Samples) -> list[Row]:
    """G1 to G4, G8, G9 and G11: what a meter costs."""
    return [*_reading_rows(found), *_start_rows(found), *_import_rows(found), *_rest_rows(found)]


def _reading_rows(found: Samples) -> list[Row]:
    what = "CPU of a reading: 2 RAPL zones, 1 GPU, beside a computing main thread"
    ours = per_sample_ms(found[OURS])
    codecarbon, eco2ai = (per_sample_ms(found.get(peer, ())) for peer in ("CodeCarbon", "eco2AI"))
    return [
        _limited(found, f"G1 {what}", "ms", 0.25, per_sample_ms),
        _ratio("G1 the same, over CodeCarbon's", 0.25, ours, codecarbon),
        _ratio("G1 the same, over eco2AI's", 1 / 50, ours, eco2ai),
    ]


def _start_rows(found: Samples) -> list[Row]:
    whole = {tool: short(stage_ms(samples, "start", "all_s"), "ms") for tool, samples in found.items()}
    return [
        _limited(found, "G2 start: CPU of the calling thread", "ms", 50, _stage("start", "thread_s")),
        _ratio(
            "G2 that over all CPU of CodeCarbon's start",
            0.1,
            stage_ms(found[OURS], "start", "thread_s"),
            stage_ms(found.get("CodeCarbon", ()), "start", "all_s"),
        ),
        Row(goal="G2", what="start: CPU of all threads and child processes until it returns", cells=whole),
        _limited(
            found, "G4 time from the call of start to the first reading, wall", "ms", 50, _of("first_s", 1000)
        ),
    ]


def _import_rows(found: Samples) -> list[Row]:
    heavy = {
        tool: next((s["heavy"] for s in samples if "error" not in s), ["failed"])
        for tool, samples in found.items()
    }
    is_light = not set(heavy[OURS]) & {"pandas", "sklearn", "torch", "subprocess", "failed"}
    names = {tool: ", ".join(libraries) or "none" for tool, libraries in heavy.items()}
    return [
        _limited(found, "G3 import: CPU; ours on top of mlflow", "ms", 50, _stage("load", "thread_s")),
        _limited(found, "G3 import: modules", "", 60, _of("modules")),
        Row(
            goal="G3", what="import: heavy libraries, subprocess", target="none", is_met=is_light, cells=names
        ),
    ]


def _rest_rows(found: Samples) -> list[Row]:
    wall = {tool: short(stage_ms(samples, "stop", "wall_s"), "ms") for tool, samples in found.items()}
    both = {tool: _of("mark_s", 1e6)(samples) for tool, samples in found.items()}
    pairs = {tool: short(values, "us") for tool, values in both.items() if values}
    return [
        _limited(
            found,
            "G8 a phase mark, half of `with phase()` (Zeus: half of a window)",
            "us",
            3,
            _of("mark_s", 5e5),
        ),
        Row(goal="G8", what="both marks of a phase (Zeus: a window): CPU", cells=pairs),
        _limited(found, "G9 memory at start; ours over mlflow and pynvml", "MB", 10, _of("memory_mb")),
        _limited(found, "G11 stop: CPU of the calling thread", "ms", 50, _stage("stop", "thread_s")),
        Row(goal="G11", what="stop: wall", cells=wall),
    ]


def _stage(name: str, key: str) -> Values:
    return lambda samples: stage_ms(samples, name, key)


def _of(key: str, scale: float = 1.0) -> Values:
    return lambda samples: [scale * s[key] for s in samples if "error" not in s and s.get(key) is not None]


def _limited(found: Samples, what: str, unit: str, limit: float, values: Values) -> Row:
    """A figure of every tool, and a limit for ours; the goal is the first word of `what`."""
    goal, _, text = what.partition(" ")
    got = {tool: values(samples) for tool, samples in found.items()}
    cells = {tool: short(v, unit) for tool, v in got.items() if v or tool == OURS}
    is_met = bool(got[OURS]) and median(got[OURS]) <= limit
    return Row(goal=goal, what=text, target=f"<= {limit:g} {unit}".strip(), is_met=is_met, cells=cells)


def _ratio(what: str, limit: float, ours: Sequence[float], others: Sequence[float]) -> Row:
    """Ours over a peer's, of each round; the goal is the first word of `what`."""
    goal, _, text = what.partition(" ")
    ratios = [a / b for a, b in zip(ours, others, strict=False) if b]
    is_met = bool(ratios) and median(ratios) <= limit
    return Row(goal=goal, what=text, target=f"<= {limit:g}", is_met=is_met, cells={OURS: short(ratios, "")})


def share_rows(costs: Mapping[str, Any], pairs: Mapping[str, Any]) -> list[Row]:
    """G5: own threads, and the slowdown of paired loops."""
    rows = []
    for what, limit, samples in (("1 Hz", 0.3, pairs["1 Hz"]), ("10 Hz", 1.0, costs[OURS])):
        values = share_percent(samples)
        cells = {OURS: short(values, "%")}
        if what == "10 Hz":
            cells |= {
                f"{t}": short(share_percent(s), "%")
                for t, s in costs.items()
                if t in ("CodeCarbon", "carbontracker")
            }
        rows.append(
            Row(
                goal="G5",
                what=f"own threads over the process, CPU, at {what}",
                target=f"<= {limit:g} %",
                is_met=bool(values) and median(values) <= limit,
                cells=cells,
            )
        )
    slower = slowdown_percent(dict(pairs))
    low, high, confidence = median_interval(slower) if slower else (0.0, 0.0, 0.0)
    text = (
        f"{three(median(slower))} %, interval {three(low)} to {three(high)} % ({100 * confidence:.0f} %), {len(slower)} pairs"
        if slower
        else "failed"
    )
    rows.append(
        Row(
            goal="G5",
            what="less work per CPU second of the process, pairs, at 1 Hz",
            target="<= 0.5 %",
            is_met=bool(slower) and median(slower) <= 0.5,
            cells={OURS: text},
        )
    )
    return rows


def wave_rows(which: Sequence[Case], results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """G6 in real time: every meter on the same cases."""
    rows = []
    for case in which:
        by_tool = {
            t: [r for r in results if r["case"] == case.name and r["tool"] == t]
            for t in (OURS, OURS_10_HZ, *PEERS)
        }
        cells = {t: cell(r) for t, r in by_tool.items() if r}
        judged = by_tool[OURS_10_HZ] or by_tool[OURS]
        ours = f"{cells[OURS]}; from its first reading on {cell(by_tool[OURS], 'later_error_ratio')}"
        if by_tool[OURS_10_HZ]:
            later = cell(by_tool[OURS_10_HZ], "later_error_ratio")
            ours = f"10 Hz: {cells.pop(OURS_10_HZ)}; from its first reading on {later}; 1 Hz: {ours}"
        errors = [abs(r["error_ratio"]) for r in judged if r["error_ratio"] is not None]
        rows.append(
            Row(
                goal=case.goal,
                what=f"real time: {case.name}",
                target=f"<= {100 * case.limit_ratio:g} %",
                is_met=len(errors) == len(judged) and max(errors) <= case.limit_ratio,
                cells=cells | {OURS: ours},
            )
        )
    return rows


def kill_rows(kills: Mapping[str, Mapping[str, Any]], ranks: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """G10 and G13."""
    page = PAGES / "kill_loop.json"
    rows = [
        Row(
            goal="G10",
            what="processes that outlive SIGKILL by 3 s",
            target="0",
            is_met=not kills[OURS]["orphans"],
            cells={t: str(len(k["orphans"])) for t, k in kills.items()},
        ),
        Row(
            goal="G10",
            what="files with what was measured after SIGKILL (4 s in)",
            target="some",
            is_met=bool(kills[OURS]["left"]),
            cells={t: ", ".join(k["left"]) or "none" for t, k in kills.items()},
        ),
    ]
    if page.exists():
        loop = json.loads(page.read_text(encoding="utf-8"))["raw"]["kills"]
        losses = [r["loss_s"] for r in loop if r["loss_s"] is not None]
        bad = sum(bool(r["problems"]) for r in loop)
        rows.append(
            Row(
                goal="G10",
                what=f"longest loss, and bad records, of {len(loop)} kills (kill_loop.md)",
                target="<= 5 s, 0",
                is_met=max(losses) <= 5 and not bad,
                cells={OURS: f"{three(max(losses))} s, {bad}"},
            )
        )
    times = ranks[OURS]["times"]
    cells = {t: f"{r['times']:.2f} x" if r["times"] is not None else "failed" for t, r in ranks.items()}
    rows.append(
        Row(
            goal="G13",
            what="4 ranks on a node: what they tell in sum (ours: what their run says) over the truth (GPU)",
            target="1 x",
            is_met=times is not None and abs(times - 1) <= 0.05,
            cells=cells,
        )
    )
    return rows

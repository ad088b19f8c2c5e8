"""What each policy saves on five recorded grids, by their own past, by published forecasts and on a held machine.

Usage: MLFLOW_CARBON_DATA=folder python benchmarks/scheduling.py
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from record import Report, Table, load, write

from mlflow_carbon.core.paths import Track
from mlflow_carbon.core.plans import Terms
from mlflow_carbon.core.scene import Scenario
from mlflow_carbon.core.simulate import simulate
from mlflow_carbon.grid import traces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_carbon.core.simulate import Score

TRACES = {
    "GB": "GB_2021-2022_60min.csv",
    "DE": "DE_2020-2021_60min.csv",
    "US-CAL-CISO": "US-CAL-CISO_2020-2021_60min.csv",
    "PL": "PL_2020-2021_60min.csv",
    "SE": "SE_2021_60min.csv",
}
ARCHIVES = {"DE": "DE_forecast48h_2021H2.csv", "US-CAL-CISO": "US-CAL-CISO_forecast48h_2021H2.csv"}
SHORT = (1, 4, 12)
SIMPLE = ("threshold", "percentile", "persistence")
IDLE = 0.1
MIN_GAIN = 0.03
Scores = dict[tuple[str, float], "Score"]


def main() -> None:
    """Score everything and write the page."""
    before = load()
    folder = Path(os.environ["MLFLOW_CARBON_DATA"]) / "grid"
    tracks = {zone: Track.of(traces.trace(_text(folder / name), name=name)) for zone, name in TRACES.items()}
    seconds: dict[str, float] = {}
    own = {}
    for zone, track in tracks.items():
        started = time.process_time()
        own[zone] = _scores(track, Scenario())
        seconds[zone] = time.process_time() - started
    held = {zone: _scores(track, Scenario(idle_ratio=IDLE), _PLANNED) for zone, track in tracks.items()}
    asking = Scenario(terms=Terms(min_gain_ratio=MIN_GAIN))
    strict = {zone: _scores(track, asking, _PLANNED) for zone, track in tracks.items()}
    published = {}
    for zone, name in ARCHIVES.items():
        archive = traces.archive(_text(folder / name), name=name)
        track = tracks[zone]
        given = Track(values=track.values, start_s=track.start_s, step_s=track.step_s, archive=archive)
        published[zone] = _scores(given, Scenario(), ("ridge", *_PLANNED))
    parts = {"own": own, "published": published, "held": held, "minimum gain": strict}
    write("scheduling", _report(parts, seconds, (before, load())))


_PLANNED = ("window", "interruptible")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _scores(track: Track, scenario: Scenario, policies: Sequence[str] | None = None) -> Scores:
    return {(score.policy, score.hours): score for score in simulate(track, scenario, policies)}


def _report(
    parts: Mapping[str, Mapping[str, Scores]], seconds: Mapping[str, float], loads: tuple[str, str]
) -> Report:
    policies = tuple(dict.fromkeys(policy for policy, _ in parts["own"]["GB"]))
    return Report(
        title="Scheduling: emissions saved on recorded grids",
        text=(
            "A job of constant power is submitted at every hour of the last year of each trace and may start up to "
            "24 h later. Saved: its emissions against starting at once, summed over all starts, by what the grid "
            "then did; in brackets the share of what perfect foresight saves with the same freedom. Every decision "
            "sees the past only, and is taken anew each hour. No constant was fitted to these years: how they were "
            "chosen, and what else was tried, is in [decision 0017](../decisions/0017-forecaster.md)."
        ),
        command="make bench-scheduling",
        load=loads,
        tables=(
            Table(
                title="Goals",
                text="",
                head=("What", "Goal", "Reached", "Verdict"),
                rows=_goals(parts, max(seconds.values())),
            ),
            _table("Own history only", "", parts["own"], policies),
            _table(
                "With the published forecasts of July to December 2021",
                "Forecasts were issued once a day. `ridge` is the own history alone over the same months.",
                parts["published"],
                ("ridge", *_PLANNED),
            ),
            _table(
                f"On a machine that is held and idles at {IDLE:.0%} of the job's power",
                "Idling is in what is saved, by the policy and by perfect foresight.",
                parts["held"],
                _PLANNED,
            ),
            _table(
                f"Starting at once where less than {MIN_GAIN:.0%} is expected to be saved",
                "What `plan` does by default: fewer waits, and little is left of flat grids.",
                parts["minimum gain"],
                _PLANNED,
            ),
        ),
        notes=_notes(seconds),
        raw={
            part: {zone: [asdict(score) for score in scores.values()] for zone, scores in zones.items()}
            for part, zones in parts.items()
        },
    )


def _notes(seconds: Mapping[str, float]) -> tuple[str, ...]:
    return (
        "GB is direct CO2 of the national mix, the others life cycle by generation; average intensity throughout.",
        "Submissions that start in the same day are not independent, and one year is one year.",
        f"All policies over a year took {min(seconds.values()):.0f} to {max(seconds.values()):.0f} s of CPU.",
    )


def _goals(parts: Mapping[str, Mapping[str, Scores]], seconds: float) -> list[tuple[str, str, str, str]]:
    own = parts["own"]
    reached = {
        zone: mean(_reached(scores["window", hours]) for hours in SHORT) for zone, scores in own.items()
    }
    pausing = mean(_reached(scores["interruptible", 24]) for scores in own.values())
    archive = mean(_reached(parts["published"]["DE"]["window", hours]) for hours in SHORT)
    least = min(score.saving_ratio for score in _planned(own))
    held = min(score.saving_ratio for score in _planned(parts["held"]))
    lead = min(
        scores["window", hours].saving_ratio - scores[other, hours].saving_ratio
        for scores in own.values()
        for hours in SHORT
        for other in SIMPLE
    )
    return [
        _goal("mean share of foresight, 1, 4 and 12 h, own history", 0.85, mean(reached.values())),
        _goal("the worst trace of these", 0.60, min(reached.values())),
        _goal("mean share of foresight, 24 h with pauses", 0.85, pausing),
        _goal("least lead over threshold, percentile and persistence, 1 to 12 h", 0.0, lead),
        _goal("mean share of foresight, 1, 4 and 12 h, DE with published forecasts", 0.90, archive),
        _goal("least saving of any trace and length", 0.0, least),
        _goal(f"the same on a machine held at {IDLE:.0%} idle power", 0.0, held),
        (
            "CPU time for all policies over a year",
            "<= 60 s",
            f"{seconds:.0f} s",
            "met" if seconds <= 60 else "**missed**",
        ),
    ]


def _planned(zones: Mapping[str, Scores]) -> list[Score]:
    return [score for scores in zones.values() for (policy, _), score in scores.items() if policy in _PLANNED]


def _goal(what: str, least: float, value: float) -> tuple[str, str, str, str]:
    return what, f">= {least:.0%}", f"{value:.2%}", "met" if value >= least else "**missed**"


def _reached(score: Score) -> float:
    return score.reached_ratio or 0.0


def _table(title: str, text: str, zones: Mapping[str, Scores], policies: Sequence[str]) -> Table:
    rows = []
    for zone, scores in zones.items():
        hours = sorted({h for _, h in scores})
        for policy in policies:
            found = [scores[policy, h] for h in hours]
            harm = f"{mean(score.harm_ratio for score in found):.0%}"
            wait = f"{mean(score.wait_mean_h for score in found):.1f} h"
            rows.append((zone, policy, *(_cell(score) for score in found), harm, wait))
    head = ("Zone", "Policy", "1 h", "4 h", "12 h", "24 h", "Starts that lost", "Mean delay")
    return Table(title=title, text=text, head=head, rows=rows)


def _cell(score: Score) -> str:
    reached = score.reached_ratio
    saved = f"{100 * score.saving_ratio:.1f} %"
    return saved if reached is None or score.policy in {"oracle", "now"} else f"{saved} ({reached:.0%})"


if __name__ == "__main__":
    main()

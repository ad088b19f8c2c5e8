"""`mlflow-carbon plan --simulate`: what each policy would have saved on a recorded trace."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlflow_carbon.errors import GridError, SettingsError
from mlflow_carbon.grid import traces

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow_carbon.core.history import Archive, History
    from mlflow_carbon.core.simulate import Score

__all__ = ["render", "run"]

_LONGEST_H = 168


def run(options: argparse.Namespace) -> int:
    """Score policies and print a line or a row for each. Returns the exit code."""
    from mlflow_carbon.core.plans import Terms
    from mlflow_carbon.core.scene import DEFAULT_THRESHOLD
    from mlflow_carbon.core.simulate import SCORED, Scenario, simulate

    hours = options.hours or (1.0, 4.0, 12.0, 24.0)
    idle, min_gain = options.idle or 0.0, options.min_gain or 0.0
    policies = list(SCORED) if options.policy in {None, "all"} else options.policy.split(",")
    _check(options, policies, list(SCORED))
    limit = DEFAULT_THRESHOLD if options.threshold is None else options.threshold
    terms = Terms(min_gain_ratio=min_gain, threshold_gco2e_per_kwh=limit)
    scenario = Scenario(hours=hours, slack_h=options.slack, idle_ratio=idle, terms=terms)
    history = traces.trace(_text(options.simulate), name=options.simulate.name)
    archive = (
        traces.archive(_text(options.forecast), name=options.forecast.name) if options.forecast else None
    )
    from mlflow_carbon.core.paths import Track

    try:
        scores = simulate(Track.of(history, archive), scenario, policies)
    except ValueError as error:
        raise GridError(f"{options.simulate.name}: {error}") from error
    if options.format == "json":
        print(
            json.dumps([asdict(score) | {"reached_ratio": score.reached_ratio} for score in scores], indent=1)
        )
    else:
        print(render(scores, history, archive, f"slack {options.slack:g} h, idle power {idle:.0%}"))
    return 0


def _check(options: argparse.Namespace, policies: Sequence[str], known: Sequence[str]) -> None:
    """Refuse numbers that mean nothing before any file is read."""
    unknown = [name for name in policies if name not in known]
    if unknown:
        raise SettingsError(f"--policy: expected all or some of {','.join(known)}, got {','.join(unknown)}")
    if not all(0 < hours <= _LONGEST_H for hours in options.hours or ()):
        raise SettingsError(
            f"--hours: expected lengths above 0 and at most {_LONGEST_H} h, got {options.hours}"
        )
    if not 0 <= options.slack <= _LONGEST_H:
        raise SettingsError(f"--slack: expected 0 to {_LONGEST_H} h, got {options.slack:g}")
    if not 0 <= (options.idle or 0) <= 1:
        raise SettingsError(f"--idle: expected a share of the job's power, 0 to 1, got {options.idle:g}")
    if not 0 <= (options.threshold or 0) < math.inf:
        raise SettingsError(f"--threshold: expected 0 gCO2e/kWh or more, got {options.threshold:g}")
    if not 0 <= (options.min_gain or 0) < 1:
        raise SettingsError(f"--min-gain: expected a share, 0 to 1, got {options.min_gain:g}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GridError(f"{path}: expected a CSV file in UTF-8, got {error}") from error


def render(
    scores: Sequence[Score],
    history: History,
    archive: Archive | None,
    terms: str = "slack 24 h, idle power 0%",
) -> str:
    """One line a policy: emissions saved at each length, and in brackets how much of what was possible."""
    hours = list(dict.fromkeys(score.hours for score in scores))
    by_policy: dict[str, dict[float, Score]] = {}
    for score in scores:
        by_policy.setdefault(score.policy, {})[score.hours] = score
    fewest, most = min(s.starts for s in scores), max(s.starts for s in scores)
    starts = f"{fewest} to {most}" if fewest != most else f"{most}"
    head = f"{'policy':14}" + "".join(f"{f'{h:g} h job':>13}" for h in hours) + f"{'harm':>7}{'wait':>7}"
    lines = [
        f"{history.source}: {starts} starts, slots of {history.step_s // 60} min"
        + (f", {len(archive.forecasts)} forecasts" if archive is not None else ", own history only"),
        f"{terms}; modelled: constant power, on the recorded intensities",
        "saved against starting at once, and in brackets its share of what perfect foresight saves",
        head,
        *(_line(name, [found[h] for h in hours]) for name, found in by_policy.items()),
        "harm: share of starts that emitted more than at once; wait: mean delay; both over all lengths",
    ]
    return "\n".join(lines)


def _line(name: str, scores: Sequence[Score]) -> str:
    cells = "".join(f"{_cell(score):>13}" for score in scores)
    harm = sum(score.harm_ratio for score in scores) / len(scores)
    wait = sum(score.wait_mean_h for score in scores) / len(scores)
    return f"{name:14}{cells}{harm:>7.1%}{f'{wait:.1f} h':>7}"


def _cell(score: Score) -> str:
    reached = score.reached_ratio
    if reached is None:
        return f"{score.saving_ratio:.1%} (-)"
    return f"{score.saving_ratio:.1%} ({f'{reached:.0%}' if reached >= 0 else '<0'})"

"""The verdict of a run from its coverage and its sensor errors.

Limits follow A01 (covered time) and A22 (read errors) of the anomaly rules. Noise of a shared
machine never makes a run invalid, so for now a verdict is `ok` or `warn`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Case
from mlflow_carbon.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_carbon.core.series import EnergySeries

__all__ = ["COVERAGE_RATIO", "ERROR_RATIO", "UNCOVERED_S", "judge"]

COVERAGE_RATIO = 0.99
"""A channel with data for less of the run than this is a finding ..."""
UNCOVERED_S = 0.5
"""... if more than this is missing: a short run has no data before its first reading."""
ERROR_RATIO = 0.005
"""Share of failed reads above which a channel is a finding."""

_WORDS = {
    Case.RESET: "{count} interval(s) lost (reset)",
    Case.IMPLAUSIBLE: "{count} reading(s) beyond belief left out (implausible)",
}


def judge(
    series: EnergySeries, errors: Mapping[str, int], ticks: int, troubles: Iterable[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """Verdict `ok` or `warn`, and the findings in words.

    Args:
        series: Energy of the run.
        errors: Failed reads by channel.
        ticks: How many passes over the sensors there were.
        troubles: What else went wrong: journal, store, sampler.
    """
    findings = [
        *_coverage(series),
        *_cases(series),
        *(
            f"{channel}: {count} of {ticks} reads failed"
            for channel, count in errors.items()
            if count > ERROR_RATIO * ticks
        ),
        *troubles,
    ]
    return ("warn" if findings else "ok"), tuple(findings)


def _coverage(series: EnergySeries) -> list[str]:
    if not series.parts():
        return ["nothing was measured: no sensor and no model was found"]
    if not any(series.covered_ns.get(c.id) for c in series.parts()):
        return ["nothing was measured: the run ended before its second reading"]
    found = []
    for channel in series.parts():
        missing_s = (series.duration_ns - series.covered_ns.get(channel.id, 0)) / NS_PER_S
        total_s = series.duration_ns / NS_PER_S
        if missing_s > UNCOVERED_S and missing_s > (1 - COVERAGE_RATIO) * total_s:
            found.append(f"{channel.id}: no data for {missing_s:.1f} s of {total_s:.1f} s")
    return found


def _cases(series: EnergySeries) -> list[str]:
    return [
        f"{channel}: {_WORDS[case].format(count=count)}"
        for channel, cases in series.cases.items()
        for case, count in cases.items()
        if case in _WORDS
    ]

"""Recorded intensities and forecasts in CSV, checked strictly: a simulation of wrong data proves nothing.

Traces: `slot_start_utc,gco2_per_kwh`. Archives: `issued_utc,slot_start_utc,forecast_gco2_per_kwh`. Times are
`YYYY-MM-DDThh:mmZ`, UTC; slots have one length, are in order and have no gap.
"""

from __future__ import annotations

import csv
from itertools import pairwise
from typing import TYPE_CHECKING

from mlflow_carbon.core.history import ABSURD_GCO2E_PER_KWH, DAY_S, Archive, History, PublishedForecast
from mlflow_carbon.core.times import minute
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.answers import epoch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ARCHIVE_HEADER", "TRACE_HEADER", "archive", "trace"]

_Slot = tuple[int, float, int]  # start, value, line
TRACE_HEADER = ("slot_start_utc", "gco2_per_kwh")
ARCHIVE_HEADER = ("issued_utc", "slot_start_utc", "forecast_gco2_per_kwh")


def trace(text: str, *, name: str) -> History:
    """The history in a trace.

    Args:
        text: The file's content.
        name: What to call it in messages.

    Raises:
        GridError: If the header, a time, a value or the raster is wrong; the message names the line.
    """
    rows = _rows(text, TRACE_HEADER, name)
    slots = [(_time(start, name, line), _value(value, name, line), line) for line, (start, value) in rows]
    step_s = _step(slots, name)
    return History(
        start_s=slots[0][0], step_s=step_s, values=tuple(value for _, value, _ in slots), source=name
    )


def archive(text: str, *, name: str) -> Archive:
    """The forecasts in an archive; where one issue has a slot twice, the row that was written last counts.

    Raises:
        GridError: As for a trace, and if the issues have different slot lengths.
    """
    issues: dict[int, dict[int, _Slot]] = {}
    for line, (issued, start, value) in _rows(text, ARCHIVE_HEADER, name):
        slot = (_time(start, name, line), _value(value, name, line), line)
        issues.setdefault(_time(issued, name, line), {})[slot[0]] = slot
    found = []
    for issued_s in sorted(issues):
        slots = [issues[issued_s][start_s] for start_s in sorted(issues[issued_s])]
        step_s = _step(slots, name)
        values = tuple(value for _, value, _ in slots)
        found.append(
            PublishedForecast(
                issued_s=issued_s, start_s=slots[0][0], step_s=step_s, values=values, source=name
            )
        )
    try:
        return Archive(forecasts=tuple(found))
    except ValueError as error:
        raise GridError(f"{name}: {error}") from error


def _rows(text: str, header: Sequence[str], name: str) -> list[tuple[int, list[str]]]:
    """Numbered rows under the expected header."""
    lines = list(csv.reader(text.removeprefix("\ufeff").splitlines()))
    if not lines or tuple(lines[0]) != tuple(header):
        got = ",".join(lines[0])[:80] if lines else "an empty file"
        raise GridError(f"{name}: expected the header {','.join(header)}, got {got}; see `plan --help`")
    rows = [(number, line) for number, line in enumerate(lines[1:], start=2) if line]
    wrong = next((number for number, line in rows if len(line) != len(header)), None)
    if wrong is not None:
        raise GridError(f"{name}, line {wrong}: expected {len(header)} columns, got {len(lines[wrong - 1])}")
    return rows


def _time(text: str, name: str, line: int) -> int:
    when = epoch(text)
    if when is None:
        raise GridError(
            f"{name}, line {line}: expected a UTC time like 2021-03-28T01:00Z, got {text!r}; "
            "convert local times, their clock changes leave gaps and doubles"
        )
    return when


def _value(text: str, name: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= ABSURD_GCO2E_PER_KWH:
        raise GridError(
            f"{name}, line {line}: expected 0 to {ABSURD_GCO2E_PER_KWH:g} gCO2e/kWh, got {text!r}; "
            "mend the value or its unit"
        )
    return value


def _step(slots: Sequence[_Slot], name: str) -> int:
    """The one length of all slots."""
    if len(slots) < 2:  # noqa: PLR2004 - a step needs two ends
        raise GridError(f"{name}: expected at least two slots, got {len(slots)}")
    step_s = slots[1][0] - slots[0][0]
    if step_s <= 0 or DAY_S % step_s or slots[0][0] % step_s:
        raise GridError(
            f"{name}, line {slots[1][2]}: expected slots in order whose length divides a day, on its raster, "
            f"got {step_s} s after {minute(slots[0][0])}"
        )
    for (before, _, _), (after, _, line) in pairwise(slots):
        if after - before != step_s:
            raise GridError(f"{name}, line {line}: {_wrong_step(before, after, step_s)}")
    return step_s


def _wrong_step(before: int, after: int, step_s: int) -> str:
    got = f"expected {minute(before + step_s)}, got {minute(after)}: "
    if after == before:
        return got + "the slot is there twice; keep the one that was written last"
    if after < before:
        return got + "the slots are not in order; sort them"
    if (after - before) % step_s:
        return got + f"the slot length is not {step_s} s throughout; bring all slots to one length"
    return got + f"{(after - before) // step_s - 1} slots are missing; fill the gap or cut the trace there"

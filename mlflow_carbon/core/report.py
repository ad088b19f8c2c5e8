"""A footprint in words: the run note (Markdown), the short text summary, and metric keys.

Every line says whether its number is measured or modelled and in which range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.core.units import j_to_kwh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlflow_carbon.core.beside import FactRow
    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.core.phases import PhaseRow

__all__ = [
    "NOTE_END",
    "NOTE_START",
    "describe_energy",
    "describe_grams",
    "merge_note",
    "note",
    "summary_metrics",
]

NOTE_START = "<!-- mlflow-carbon -->"
NOTE_END = "<!-- /mlflow-carbon -->"

# MLflow shows the beginning of a note as plain text under the mouse, and folds it in the overview after a few
# lines. So it begins with a sentence, and the mark comes behind.
_TITLE = "Energy and carbon: "
_NODES = 32  # rows of machines; a note holds 8000 characters
_GAP = "&emsp;"  # MLflow's tables have no space between columns

_ENERGY_STEPS = ((1e-3, 1e6, "mWh"), (1.0, 1e3, "Wh"), (1e3, 1.0, "kWh"))
_BYTE_STEPS = ((1e3, 1.0, "B"), (1e6, 1e-3, "kB"), (1e9, 1e-6, "MB"), (float("inf"), 1e-9, "GB"))
_UNITS = {"c": "°C", "mhz": "MHz", "percent": "%"}
_GRAM_STEPS = ((1.0, 1e3, "mgCO2e"), (1e3, 1.0, "gCO2e"), (float("inf"), 1e-3, "kgCO2e"))


def summary_metrics(footprint: RunFootprint, *, detail: bool = False) -> dict[str, float]:
    """The `carbon/<x>` metrics of a footprint: the default ones, or every number that applies."""
    return {f"carbon/{name}": value for name, value, spec in footprint.numbers() if detail or spec["metric"]}


def describe_energy(low_kwh: float, value_kwh: float, high_kwh: float) -> str:
    """An energy with its range in the unit that reads best, for example `1.20 Wh (0.80 to 1.70)`."""
    return _with_range(low_kwh, value_kwh, high_kwh, _ENERGY_STEPS)


def describe_grams(low_g: float, value_g: float, high_g: float) -> str:
    """Emissions with their range in the unit that reads best."""
    return _with_range(low_g, value_g, high_g, _GRAM_STEPS)


def _with_range(low: float, value: float, high: float, steps: tuple[tuple[float, float, str], ...]) -> str:
    factor, unit = next(((f, u) for limit, f, u in steps if value < limit), steps[-1][1:])
    return f"{_three(value * factor)} {unit} ({_three(low * factor)} to {_three(high * factor)})"


def _three(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    if value == 0:
        return "0"
    if value >= 100:  # noqa: PLR2004 - three digits before the point
        return f"{value:.0f}"
    text = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if "e" in text else text


def note(
    footprint: RunFootprint,
    phases: Iterable[PhaseRow] = (),
    findings: Iterable[str] = (),
    beside: Iterable[FactRow] = (),
    nodes: Iterable[tuple[str, RunFootprint]] = (),
) -> str:
    """The run note: a Markdown table that MLflow shows in the overview of the run.

    Args:
        footprint: Of the whole run.
        phases: Its phases, where they are known.
        findings: What is wrong with it, in words.
        beside: What stood beside power.
        nodes: Name and figures of each machine, where there are several.
    """
    rows = [
        ("Energy", _energy_text(footprint)),
        *_component_rows(footprint),
        ("CO2e", _grams_text(footprint)),
        ("Grid", _grid_text(footprint)),
        ("Facility", f"PUE {footprint.pue_ratio or 1.0:g} ({footprint.pue_source or 'default'})"),
        ("Time", _time_text(footprint)),
        ("Machine", _machine_text(footprint)),
        ("Verdict", _verdict_text(footprint)),
    ]
    if footprint.sci_gco2e_per_unit is not None:
        grams = _only(footprint.sci_gco2e_per_unit, describe_grams)
        rows.append(("SCI", f"{grams} per {footprint.functional_unit}"))
    lines = [f"{_headline(footprint)} {NOTE_START}", "", _row("What", "Figure"), "| --- | --- |"]
    lines += [_row(name, _cell(text)) for name, text in rows]
    lines += _phase_table(tuple(phases))
    lines += _beside_table(beside)
    lines += _node_table(tuple(nodes))
    lines += [f"\n> {_cell(text)}" for text in findings]
    return "\n".join([*lines, NOTE_END])


def merge_note(existing: str, block: str) -> str:
    """Put our block into a note: in place of an earlier one, else after the user's text."""
    # The last start with an end after it: where a user has lost one of the marks, no text of theirs
    # between an old mark and ours is taken for ours.
    start = existing.rfind(NOTE_START)
    end = existing.find(NOTE_END, max(start, 0))
    if 0 <= start < end:
        title = existing.rfind(_TITLE, existing.rfind("\n", 0, start) + 1, start)
        start = title if title >= 0 else start
        return existing[:start] + block + existing[end + len(NOTE_END) :]
    return f"{existing}\n\n{block}" if existing.strip() else block


def _headline(footprint: RunFootprint) -> str:
    if footprint.energy_kwh is None:
        return f"{_TITLE}nothing was read"
    return (
        f"{_TITLE}{_range_text(footprint)}, {_grams_text(footprint)}; "
        f"{footprint.basis}, quality {footprint.quality}"
    )


def _range_text(footprint: RunFootprint) -> str:
    return describe_energy(
        footprint.energy_low_kwh or 0.0, footprint.energy_kwh or 0.0, footprint.energy_high_kwh or 0.0
    )


def _energy_text(footprint: RunFootprint) -> str:
    if footprint.energy_kwh is None:
        return "nothing was read"
    return f"{_range_text(footprint)}, {footprint.basis}, quality {footprint.quality}"


def _component_rows(footprint: RunFootprint) -> list[tuple[str, str]]:
    parts = (
        ("of it CPU", footprint.energy_cpu_kwh),
        ("of it GPU", footprint.energy_gpu_kwh),
        ("of it memory", footprint.energy_dram_kwh),
    )
    return [(name, _only(kwh, describe_energy)) for name, kwh in parts if kwh is not None]


def _only(value: float, describe: Callable[[float, float, float], str]) -> str:
    """A figure without its range."""
    return describe(value, value, value).partition(" (")[0]


def _grams_text(footprint: RunFootprint) -> str:
    if footprint.emissions_gco2e is None:
        return "unknown"
    return describe_grams(
        footprint.emissions_low_gco2e or 0.0,
        footprint.emissions_gco2e or 0.0,
        footprint.emissions_high_gco2e or 0.0,
    )


def _grid_text(footprint: RunFootprint) -> str:
    value = footprint.intensity_gco2e_per_kwh
    shown = f"{value:.0f} gCO2e/kWh" if value is not None else "no energy to cost"
    return (
        f"{shown}, zone {footprint.zone} (from {footprint.zone_source}), "
        f"{footprint.intensity_kind}, {footprint.provider}"
    )


def _time_text(footprint: RunFootprint) -> str:
    return f"{footprint.duration_s or 0:.1f} s, {100 * (footprint.coverage_ratio or 0):.1f} % covered"


def _machine_text(footprint: RunFootprint) -> str:
    """Energy is that of the whole machine: how much of its busy CPU time was this process."""
    share = footprint.process_cpu_ratio
    if share is None:
        return "energy of the whole machine"
    return f"energy of the whole machine; {100 * min(share, 1):.0f} % of its busy CPU time was this process"


def _verdict_text(footprint: RunFootprint) -> str:
    meaning = {"ok": "readings are complete", "warn": "see the findings below"}.get(footprint.verdict)
    return f"{footprint.verdict}: {meaning}" if meaning else footprint.verdict or "none"


def _phase_table(phases: tuple[PhaseRow, ...]) -> list[str]:
    if not phases:
        return []
    head = _row("Phase", "Time", "Energy", "Share", "Error", "Confidence")
    lines = ["", head, "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        _row(
            _cell(row.phase),
            f"{row.time_s:.1f} s",
            _only(j_to_kwh(row.energy_j), describe_energy),
            f"{100 * row.energy_ratio:.1f} %",
            _error_text(row.energy_error_ratio),
            row.confidence,
        )
        for row in phases
    ]
    return lines


def _beside_table(rows: Iterable[FactRow]) -> list[str]:
    """A line per device; of clocks of groups of cores, and of fans, there are too many for one each."""
    texts: dict[str, list[str]] = {}
    for row in rows:
        family = row.source.partition(":")[0]
        if ":policy" not in row.source and family != "fan":
            texts.setdefault(row.source, []).append(_fact_text(row))
    if not texts:
        return []
    lines = ["", _row("Device", "Beside power"), "| --- | --- |"]
    return [*lines, *(_row(_cell(source), _cell(", ".join(told))) for source, told in texts.items())]


def _fact_text(row: FactRow) -> str:
    """For example `temperature 61 °C (45 to 70)`, `read 1.2 GB`, `limited by power 12 s of 60 s`."""
    *words, unit = row.what.split("_")
    if row.limited_s is not None:
        return f"{' '.join((*words, unit))} {row.limited_s:.0f} s of {row.time_s:.0f} s"
    if row.total is not None and unit == "bytes":
        factor, size = next((f, u) for limit, f, u in _BYTE_STEPS if row.total < limit)
        return f"{' '.join(words)} {_three(row.total * factor)} {size}"
    if row.total is not None:
        return f"{' '.join(words)} {row.total:.0f} times"
    low, mean, high = (_three(value or 0.0) for value in (row.low, row.mean, row.high))
    return f"{' '.join(words)} {mean} {_UNITS.get(unit, unit)} ({low} to {high})"


def _node_table(nodes: tuple[tuple[str, RunFootprint], ...]) -> list[str]:
    if not nodes:
        return []
    lines = ["", _row("Node", "Time", "Energy", "CO2e", "Verdict"), "| --- | --- | --- | --- | --- |"]
    for name, own in nodes[:_NODES]:
        energy = _only(own.energy_kwh, describe_energy) if own.energy_kwh is not None else "nothing was read"
        grams = _only(own.emissions_gco2e, describe_grams) if own.emissions_gco2e is not None else "unknown"
        lines.append(_row(_cell(name), f"{own.duration_s or 0:.1f} s", energy, grams, own.verdict))
    if len(nodes) > _NODES:
        lines.append(f"\n{len(nodes) - _NODES} more are in `carbon/nodes.json`.")
    return lines


def _error_text(ratio: float | None) -> str:
    """A standard error in percent: that of an estimate has no more than two digits that mean anything."""
    if ratio is None:
        return "none"
    return f"± {100 * ratio:.1f} %" if ratio < 0.0995 else f"± {min(100, round(100 * ratio))} %"  # noqa: PLR2004 - shown as 10


def _row(*cells: str) -> str:
    return f"| {f'{_GAP} | '.join(cells)} |"


_HARMLESS = str.maketrans(
    {"\\": "\\\\", "|": "\\|", "[": "\\[", "`": "\\`", "<": "&lt;", "\n": " ", "\r": " "}
)


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell or bring markup, links or images of its own."""
    return text.translate(_HARMLESS)

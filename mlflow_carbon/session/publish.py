"""From a recording to what is stored: points, tags and documents. Pure functions.

Live runs and recovered ones publish through the same functions, so both store the same figures.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_carbon._version import SCHEMA, __version__
from mlflow_carbon.core.bill import Bill
from mlflow_carbon.core.carbon import account, spent
from mlflow_carbon.core.footprint import RunFootprint
from mlflow_carbon.core.report import summary_metrics
from mlflow_carbon.core.totals import combine, known_sum
from mlflow_carbon.core.units import NS_PER_S, mean_power_w
from mlflow_carbon.store import Point

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_carbon.core.carbon import IntensitySeries
    from mlflow_carbon.core.phases import PhaseTable
    from mlflow_carbon.core.recording import Snapshot, StepMark
    from mlflow_carbon.core.series import EnergySeries
    from mlflow_carbon.grid.cloud import CloudSite

__all__ = [
    "PROVISIONAL",
    "SCHEMA",
    "Costing",
    "Segment",
    "end_tags",
    "footprint_document",
    "intensity_document",
    "json_bytes",
    "parse_segments",
    "phases_document",
    "segment_from",
    "snapshot_points",
    "start_tags",
    "step_points",
    "summary_points",
    "total",
]

PROVISIONAL = "provisional"
_NAMES = frozenset(RunFootprint.__dataclass_fields__)
_PHASE_METHOD = "readings inside one phase as they are; the rest by least squares of energy on phase time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costing:
    """What turns energy into emissions in one run: intensity, PUE, and where both come from.

    Attributes:
        intensity: Carbon intensity of the grid over time.
        pue_ratio: Facility energy over IT energy.
        pue_source: Where that comes from.
        zone_source: How the zone was found.
        site: The region of a cloud, where one is known, with what its provider publishes.
    """

    intensity: IntensitySeries
    pue_ratio: float
    pue_source: str
    zone_source: str
    site: CloudSite | None = None

    def bill(self) -> Bill:
        """What costs one span at this price, again and again."""
        return Bill(self.intensity, self.pue_ratio)

    def footprint(self, series: EnergySeries, bill: Bill | None = None) -> RunFootprint:
        """Footprint of an energy series; quicker with a bill of this costing that knows the series."""
        return replace(
            account(series, self.intensity, pue_ratio=self.pue_ratio, bill=bill),
            zone_source=self.zone_source,
            pue_source=self.pue_source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One measured stretch of a run; a resumed run has several.

    Attributes:
        id: Start time and process, so that storing it twice counts once.
        footprint: Its figures.
        samples: Name of the artifact with its readings.
    """

    id: str
    footprint: RunFootprint
    samples: str = ""

    @property
    def end_ms(self) -> int:
        """UTC end in milliseconds, not before the true one; 0 where it is not known."""
        start_ms = self.id.partition("-")[0]
        return int(start_ms) + int(1000 * (self.footprint.duration_s or 0)) + 1 if start_ms.isdigit() else 0

    def is_before(self, segment_id: str) -> bool:
        """Whether it was measured before another segment; a provisional one always was."""
        return self.id == PROVISIONAL or self.id < segment_id

    def as_dict(self) -> dict[str, Any]:
        """For `footprint.json`."""
        return {"id": self.id, "samples": self.samples, **self.footprint.as_dict()}


def total(previous: Sequence[Segment], current: RunFootprint) -> RunFootprint:
    """The footprint of the whole run: earlier segments and the current one."""
    return combine([*(segment.footprint for segment in previous), current])


def segment_from(entry: Mapping[str, Any]) -> Segment:
    """The segment of a dict."""
    return Segment(
        id=str(entry.get("id", "")),
        samples=str(entry.get("samples", "")),
        footprint=RunFootprint(**{k: v for k, v in entry.items() if k in _NAMES}),
    )


def parse_segments(document: bytes | None, metrics: Mapping[str, float]) -> list[Segment]:
    """Segments stored so far: from `footprint.json`, else from the last logged summary (provisional).

    A document that somebody has damaged counts as lost; the verdict of a provisional segment says so.
    """
    if document is not None:
        with suppress(ValueError, TypeError, AttributeError):
            return [segment_from(entry) for entry in json.loads(document).get("segments", [])]
    found: dict[str, Any] = {
        key.removeprefix("carbon/"): value
        for key, value in metrics.items()
        if key.removeprefix("carbon/") in _NAMES
    }
    if "energy_kwh" not in found:
        return []
    return [Segment(id=PROVISIONAL, footprint=RunFootprint(**found, verdict="warn"))]


def snapshot_points(
    snapshot: Snapshot,
    costing: Costing,
    previous: Sequence[Segment] = (),
    *,
    offset_s: int = 0,
    bill: Bill | None = None,
) -> list[Point]:
    """The `carbon/time/*` points of a snapshot: mean power since the last one, energy and emissions so far.

    `offset_s` is where the time axis of a resumed run goes on; `bill` is one of this costing.
    """
    values = _so_far(snapshot.series, bill or costing.bill(), previous)
    values["power_w"] = _power_since(snapshot)
    if costing.intensity.slots:  # a static figure makes no chart
        slot = costing.intensity.at(snapshot.t_wall_ns / NS_PER_S)
        values["intensity_gco2e_per_kwh"] = slot.gco2e_per_kwh
    t_ms = snapshot.t_wall_ns // 1_000_000
    return [
        Point(key=f"carbon/time/{name}", value=value, step=offset_s + snapshot.elapsed_s, t_ms=t_ms)
        for name, value in values.items()
        if value is not None
    ]


def _so_far(series: EnergySeries, bill: Bill, previous: Sequence[Segment]) -> dict[str, float | None]:
    """Energy and emissions of the whole run, earlier segments included."""
    energy_kwh, grams = spent(series, bill)
    return {
        "energy_kwh": known_sum(*(s.footprint.energy_kwh for s in previous), energy_kwh),
        "emissions_gco2e": known_sum(*(s.footprint.emissions_gco2e for s in previous), grams),
    }


def _power_since(snapshot: Snapshot) -> float | None:
    """Mean power since the snapshot before; None where nothing was read in that time."""
    series, before = snapshot.series, snapshot.before
    energy_uj, duration_ns = series.energy_uj(), series.duration_ns
    covered_ns = sum(series.covered_ns.values())
    if before is not None:
        energy_uj -= before.energy_uj()
        duration_ns -= before.duration_ns
        covered_ns -= sum(before.covered_ns.values())
    return mean_power_w(energy_uj, duration_ns) if duration_ns > 0 and covered_ns > 0 else None


def step_points(
    marks: Sequence[StepMark],
    costing: Costing,
    previous: Sequence[Segment] = (),
    *,
    bill: Bill | None = None,
) -> list[Point]:
    """The `carbon/step/*` points of training steps, between the two readings around each."""
    points = []
    bill = bill or costing.bill()
    told: dict[int, dict[str, float | None]] = {}  # marks between the same two readings share their series
    for mark in marks:
        for series in (mark.before, mark.after):
            if id(series) not in told:
                told[id(series)] = _so_far(series, bill, previous)
        before, after = told[id(mark.before)], told[id(mark.after)]
        for name in ("energy_kwh", "emissions_gco2e"):
            low, high = before[name] or 0.0, after[name] or 0.0
            points.append(
                Point(
                    key=f"carbon/step/{name}",
                    value=low + (high - low) * mark.ratio,
                    step=mark.step,
                    t_ms=mark.t_wall_ns // 1_000_000,
                )
            )
    return points


def summary_points(footprint: RunFootprint, *, t_ms: int, detail: bool) -> list[Point]:
    """The `carbon/<x>` summary at step 0, which the UI draws as bars."""
    return [
        Point(key=key, value=value, step=0, t_ms=t_ms)
        for key, value in summary_metrics(footprint, detail=detail).items()
    ]


def start_tags(costing: Costing) -> dict[str, str]:
    """Our own tags at the start of a run: which grid figure is used and how its zone was found."""
    return {
        "carbon.kind": "run",
        "carbon.schema": SCHEMA,
        "carbon.grid.zone": costing.intensity.zone,
        "carbon.grid.zone_source": costing.zone_source,
        "carbon.grid.provider": costing.intensity.provider,
        "carbon.pue.source": costing.pue_source,
    }


def end_tags(footprint: RunFootprint, troubles: Sequence[str], *, shared: bool) -> dict[str, str]:
    """Our own tags once the figures stand."""
    tags = {
        "carbon.basis": footprint.basis,
        "carbon.quality": footprint.quality,
        "carbon.grid.kind": footprint.intensity_kind,
        "carbon.verdict": footprint.verdict,
    }
    if footprint.functional_unit:
        tags["carbon.functional_unit"] = footprint.functional_unit
    if troubles:
        tags["carbon.error"] = "; ".join(troubles)[:500]
    if shared:
        tags["carbon.shared"] = "true"
    return {key: value for key, value in tags.items() if value}


def footprint_document(run_id: str, segments: Sequence[Segment], facts: Mapping[str, Any]) -> dict[str, Any]:
    """`footprint.json`: the whole run, its segments, and what was read and what could not be."""
    whole = combine([segment.footprint for segment in segments])
    return {
        "schema": SCHEMA,
        "plugin": __version__,
        "run_id": run_id,
        "total": whole.as_dict(),
        "segments": [segment.as_dict() for segment in segments],
        **facts,
    }


def phases_document(table: PhaseTable) -> dict[str, Any]:
    """`phases.json`."""
    return {
        "schema": SCHEMA,
        "method": _PHASE_METHOD,
        "meter_lag_s": dict(table.lags_s),
        "phases": [row.as_dict() for row in table.rows],
    }


def intensity_document(series: IntensitySeries) -> dict[str, Any]:
    """`intensity.json`: the figures that costed the run, with where they come from."""
    return {"schema": SCHEMA, **asdict(series)}


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """Readable JSON with sorted keys."""
    return (json.dumps(document, indent=2, sort_keys=True, default=str) + "\n").encode()

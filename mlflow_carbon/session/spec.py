"""What a span is, as values: what is measured, when it began and ended, and what is taken at each reading."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_carbon._version import SCHEMA, __version__
from mlflow_carbon.session.records import tick_record

if TYPE_CHECKING:
    from mlflow_carbon.core.phases import Tail
    from mlflow_carbon.core.series import Tick
    from mlflow_carbon.session.machines import Node
    from mlflow_carbon.session.usage import Usage
    from mlflow_carbon.settings import Settings

__all__ = ["Began", "Ended", "RunSpec", "Taken", "header", "segment_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What is measured.

    Attributes:
        run_id: MLflow run id, or any other name.
        tracking_uri: Where the run lives, without user info; empty without MLflow.
        parent_run_id: The run around it, if any: parents and children do not count as sharing.
        resumed: Whether the run may have figures from before.
        stored: Whether figures go to MLflow.
        node: Which of several machines this is; None for the only one.
    """

    run_id: str
    tracking_uri: str = ""
    parent_run_id: str | None = None
    resumed: bool = False
    stored: bool = True
    node: Node | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The start of a span: both clocks and the CPU time used before it."""

    mono_ns: int
    wall_ns: int
    cpu: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a span: monotonic time, status of the run and the CPU time used in it."""

    mono_ns: int
    status: str
    usage: Usage


class Taken(NamedTuple):
    """A reading, and what the training had told until then."""

    tick: Tick
    phases_ns: dict[str, int]
    entries: dict[str, int]
    tail: Tail | None
    units: dict[str, float]

    def record(self) -> dict[str, Any]:
        """For the journal."""
        record = tick_record(self.tick)
        if self.phases_ns or self.tail != []:  # ns since the last tick, entries so far, `core.phases.Tail`
            record |= {"ph": self.phases_ns, "pe": self.entries, "pt": self.tail}
        if self.units:
            record["u"] = self.units  # functional units so far
        return record


def segment_id(began: Began) -> str:
    """Start time and process: unique among the segments of a run."""
    return f"{began.wall_ns // 1_000_000}-{os.getpid()}"


def header(spec: RunSpec, settings: Settings, began: Began) -> dict[str, Any]:
    """The first record of a journal: all that `recover` needs to know besides the readings."""
    return {
        "schema": SCHEMA,
        "plugin": __version__,
        **asdict(spec),
        "pid": os.getpid(),
        "segment_id": segment_id(began),
        "start_mono_ns": began.mono_ns,
        "start_wall_ns": began.wall_ns,
        "period_s": settings.period_s,
        "detail": settings.detail,
    }

"""`Session`: one measured span while it lasts.

The training thread starts, marks and stops it; the sampler's thread feeds it. It writes the
journal and keeps what is to be published in an outbox; it never talks to a server and never raises.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon._version import SCHEMA, __version__
from mlflow_carbon.session.phase_clock import PhaseClock
from mlflow_carbon.session.records import channel_record, tick_record
from mlflow_carbon.session.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mlflow_carbon.core.phases import Tail
    from mlflow_carbon.core.recording import Recording, Snapshot, StepMark
    from mlflow_carbon.core.series import EnergySeries, Tick
    from mlflow_carbon.journal import Journal
    from mlflow_carbon.sensors import Clock, Discovery
    from mlflow_carbon.session.machines import Node
    from mlflow_carbon.settings import Settings

__all__ = ["Began", "Ended", "RunSpec", "Session"]


_TROUBLES, _TROUBLE_CHARS = 20, 300
_NOTHING = Usage(process_s=0.0, own_s=0.0, machine_s=0.0)


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


class Session:
    """One measured span.

    Args:
        spec: What is measured.
        settings: How.
        journal: Where it is recorded.
        clock: The two clocks.
        cpu_times: Reads the CPU time used so far by process, our threads and machine.
    """

    def __init__(
        self,
        spec: RunSpec,
        settings: Settings,
        *,
        journal: Journal,
        clock: Clock,
        cpu_times: Callable[[], Usage],
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.journal = journal
        self.phases = PhaseClock(clock.monotonic_ns)
        self.recording: Recording | None = None
        self.absences: tuple[dict[str, str], ...] = ()
        self.troubles: list[str] = list(settings.problems)
        self.units: dict[str, float] = {}
        self.began = Began(mono_ns=0, wall_ns=0, cpu=_NOTHING)
        self.ended: Ended | None = None
        self.measured = threading.Event()
        """Set when the last reading is in."""
        self.finished = threading.Event()
        """Set when the figures are stored, or could not be."""
        self.stored = False
        """Whether the figures are where they belong; else they wait in the journal."""
        self._clock = clock
        self._cpu_times = cpu_times
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._snapshots: list[Snapshot] = []
        self._marks: list[StepMark] = []
        self._early: list[tuple[int, int]] = []

    def start(self) -> None:
        """Begin the span now. Writes the journal's header; the readings follow from the sampler."""
        self.began = Began(
            mono_ns=self._clock.monotonic_ns(), wall_ns=self._clock.wall_ns(), cpu=self._cpu_times()
        )
        self.journal.append("header", **_header(self.spec, self.settings, self.began))

    @property
    def segment_id(self) -> str:
        """Start time and process: unique among the segments of a run."""
        return _segment_id(self.began)

    @property
    def start_ns(self) -> int:
        """Monotonic start."""
        return self.began.mono_ns

    @property
    def end_ns(self) -> int | None:
        """Monotonic end; None while it lasts."""
        return self.ended.mono_ns if self.ended is not None else None

    @property
    def wall_start_s(self) -> int:
        """UTC start in whole seconds since the epoch."""
        return self.began.wall_ns // 1_000_000_000

    def stop(self, status: str) -> None:
        """End the span now. The sampler's next tick closes it."""
        if self.ended is not None:
            return
        usage = self._cpu_times().since(self.began.cpu)
        # Read the clock last: a tick between the end and its being known would count beyond the end.
        self.ended = Ended(mono_ns=self._clock.monotonic_ns(), status=status, usage=usage)

    def on_tick(self, tick: Tick, discovery: Discovery) -> None:
        """Take one pass of the sampler (in its thread)."""
        if self.measured.is_set():
            return
        with self._lock:
            if self.recording is None:
                self._open(discovery)
            upto_ns = min(tick.t_mono_ns, self.end_ns or tick.t_mono_ns)
            phases_ns, tail = self.phases.since_last(upto_ns), self.phases.tail(upto_ns)
            record = tick_record(tick)
            if phases_ns or tail != []:  # ns since the last tick, entries so far, `core.phases.Tail`
                record |= {"ph": phases_ns, "pe": self.phases.entries(), "pt": tail}
            if self.units:
                record["u"] = dict(self.units)  # functional units so far
            self.journal.append("tick", **record)
            self._fold(tick, phases_ns, tail)
        ended = self.ended
        if ended is not None and tick.t_mono_ns >= ended.mono_ns:
            self._ask(discovery)
            self._seal(ended)

    def mark(self, step: int) -> None:
        """Note that the training has reached `step`."""
        with self._lock:  # records stand in the journal in the order in which they are folded
            t_ns = self._clock.monotonic_ns()
            self.journal.append("step", t=t_ns, step=step)
            if self.recording is not None:
                self.recording.mark(t_ns, step)
            else:
                self._early.append((t_ns, step))

    def count(self, unit: str, amount: float) -> None:
        """Add functional units, from any thread; the first unit named is the one that counts.

        An amount that is not a finite number of at least 0 is left out and kept as a trouble.
        """
        try:
            value = float(amount)
        except (TypeError, ValueError, ArithmeticError, RuntimeError):  # RuntimeError: a tensor of several
            value = math.nan
        if not 0 <= value < math.inf:
            told = f"{value:g}" if isinstance(amount, int | float) else f"a {type(amount).__name__}"
            self.trouble(f"count of {str(unit)[:50]!r}: expected a finite number of at least 0, got {told}")
            return
        with self._counting:
            first = next(iter(self.units), str(unit))
            if first == str(unit):
                self.units[first] = self.units.get(first, 0.0) + value
                return
        self.trouble(f"functional unit {str(unit)[:50]!r} ignored: this run already counts {first[:50]!r}")

    def trouble(self, text: str) -> None:
        """Keep what went wrong for the tag `carbon.error` and the verdict; each text once, the first few."""
        if len(self.troubles) < _TROUBLES and text not in self.troubles:
            self.troubles.append(text[:_TROUBLE_CHARS])

    def now_ns(self) -> int:
        """Monotonic time of the session's clock."""
        return self._clock.monotonic_ns()

    def take(self) -> tuple[list[Snapshot], list[StepMark], int]:
        """What is to be published since the last call, and the reading up to which this is all."""
        with self._lock:
            snapshots, self._snapshots = self._snapshots, []
            marks, self._marks = self._marks, []
            upto_ns = self.recording.last_ns if self.recording is not None else self.start_ns
        return snapshots, marks, upto_ns

    def still(self) -> AbstractContextManager[bool]:
        """While entered, no tick changes the recording."""
        return self._lock

    def series(self) -> EnergySeries | None:
        """Energy so far; None before the first reading."""
        with self._lock:
            return self.recording.series(self.end_ns) if self.recording is not None else None

    def _open(self, discovery: Discovery) -> None:
        from mlflow_carbon.core.recording import Recording

        self.recording = Recording(
            discovery.channels,
            start_ns=self.start_ns,
            wall_offset_ns=self.began.wall_ns - self.began.mono_ns,
            period_s=self.settings.period_s,
        )
        for t_ns, step in self._early:
            self.recording.mark(t_ns, step)
        self.absences = tuple(asdict(absence) for absence in discovery.absences)
        self.journal.append(
            "channels",
            channels=[channel_record(c) for c in discovery.channels],
            absences=list(self.absences),
        )

    def _fold(self, tick: Tick, phases_ns: dict[str, int], tail: Tail | None) -> None:
        if self.recording is None:
            return
        self.recording.count_entries(self.phases.entries())
        snapshot, marks = self.recording.add(tick, phases_ns, tail=tail, end_ns=self.end_ns)
        if snapshot is not None:
            self._snapshots.append(snapshot)
        self._marks.extend(marks)

    def _ask(self, discovery: Discovery) -> None:
        """What the sensors have found wrong with themselves."""
        from mlflow_carbon.sensors import findings

        for finding in findings(discovery.sensors):
            self.trouble(finding)

    def _seal(self, ended: Ended) -> None:
        self.journal.append(
            "end",
            end_mono_ns=ended.mono_ns,
            status=ended.status,
            usage=asdict(ended.usage),
            entries=self.phases.entries(),
            troubles=self.troubles,
        )
        self.measured.set()


def _segment_id(began: Began) -> str:
    return f"{began.wall_ns // 1_000_000}-{os.getpid()}"


def _header(spec: RunSpec, settings: Settings, began: Began) -> dict[str, Any]:
    """The first record of a journal: all that `recover` needs to know besides the readings."""
    return {
        "schema": SCHEMA,
        "plugin": __version__,
        **asdict(spec),
        "pid": os.getpid(),
        "segment_id": _segment_id(began),
        "start_mono_ns": began.mono_ns,
        "start_wall_ns": began.wall_ns,
        "period_s": settings.period_s,
        "detail": settings.detail,
    }

"""`Session`: one measured span while it lasts.

The training thread starts, marks and stops it; the sampler's thread feeds it. It writes the
journal and keeps what is to be published in an outbox; it never talks to a server and never raises.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlflow_carbon.session.phase_clock import PhaseClock
from mlflow_carbon.session.records import channel_record
from mlflow_carbon.session.spec import Began, Ended, RunSpec, Taken, header, segment_id
from mlflow_carbon.session.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_carbon.core.recording import Recording, Snapshot, StepMark
    from mlflow_carbon.core.series import EnergySeries, Tick
    from mlflow_carbon.journal import Journal
    from mlflow_carbon.sensors import Clock, Discovery
    from mlflow_carbon.settings import Settings

__all__ = ["RunSpec", "Session"]


_TOGETHER_NS = 500_000_000
"""Readings this close are recorded together: each time, code that has gone cold costs five times as much."""
_MOST_MARKS, _MOST_MARKED = 200_000, 2_000
"""Steps, and readings after which there were some, that are kept until somebody takes them: some 20 MB."""
_TROUBLES, _TROUBLE_CHARS = 20, 300
_NOTHING = Usage(process_s=0.0, own_s=0.0, machine_s=0.0)


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
        self._marked = 0  # readings that marks belong to
        self._pending: deque[Taken | tuple[int, int]] = deque()  # readings and marks (time, step)
        self._record_at_ns = 0

    def start(self) -> None:
        """Begin the span now. Writes the journal's header; the readings follow from the sampler."""
        self.began = Began(
            mono_ns=self._clock.monotonic_ns(), wall_ns=self._clock.wall_ns(), cpu=self._cpu_times()
        )
        self.journal.append("header", **header(self.spec, self.settings, self.began))

    @property
    def segment_id(self) -> str:
        """Start time and process: unique among the segments of a run."""
        return segment_id(self.began)

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
        if self.recording is None:
            with self._lock:
                self._open(discovery)
        upto_ns = min(tick.t_mono_ns, self.end_ns or tick.t_mono_ns)
        self._pending.append(
            Taken(
                tick=tick,
                phases_ns=self.phases.since_last(upto_ns),
                entries=self.phases.entries(),
                tail=self.phases.tail(upto_ns),
                units=dict(self.units),
            )
        )
        ended = self.ended
        is_last = ended is not None and tick.t_mono_ns >= ended.mono_ns
        if is_last or tick.t_mono_ns >= self._record_at_ns:
            self._record_at_ns = tick.t_mono_ns + _TOGETHER_NS
            with self._lock:
                self._record()
        if ended is not None and is_last:
            self._ask(discovery)
            self._seal(ended)

    def mark(self, step: int) -> None:
        """Note that the training has reached `step`. Waits for nobody: the next reading records it."""
        self._pending.append((self._clock.monotonic_ns(), step))

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
            self._record()
            snapshots, self._snapshots = self._snapshots, []
            marks, self._marks, self._marked = self._marks, [], 0
            upto_ns = self.recording.last_ns if self.recording is not None else self.start_ns
        return snapshots, marks, upto_ns

    @contextmanager
    def still(self) -> Iterator[None]:
        """While entered, no tick changes the recording, which has all readings so far."""
        with self._lock:
            self._record()
            yield

    def series(self) -> EnergySeries | None:
        """Energy so far; None before the first reading."""
        with self._lock:
            self._record()
            return self.recording.series(self.end_ns) if self.recording is not None else None

    def _open(self, discovery: Discovery) -> None:
        from mlflow_carbon.core.recording import Recording

        self.recording = Recording(
            discovery.channels,
            start_ns=self.start_ns,
            wall_offset_ns=self.began.wall_ns - self.began.mono_ns,
            period_s=self.settings.period_s,
        )
        self.absences = tuple(asdict(absence) for absence in discovery.absences)
        self.journal.append(
            "channels",
            channels=[channel_record(c) for c in discovery.channels],
            absences=list(self.absences),
        )

    def _record(self) -> None:
        """Journal and fold what waits, in its order. The lock is held."""
        if self.recording is None:
            return
        records: list[tuple[str, dict[str, Any]]] = []
        while self._pending:
            taken = self._pending.popleft()
            if isinstance(taken, Taken):
                records.append(("tick", taken.record()))
                self._fold(self.recording, taken)
            else:
                t_ns, step = taken
                records.append(("step", {"t": t_ns, "step": step}))
                self.recording.mark(t_ns, step)
        self.journal.append_all(records)

    def _fold(self, recording: Recording, taken: Taken) -> None:
        recording.count_entries(taken.entries)
        snapshot, marks = recording.add(taken.tick, taken.phases_ns, tail=taken.tail, end_ns=self.end_ns)
        if snapshot is not None:
            self._snapshots.append(snapshot)
        self._marks.extend(marks)
        self._marked += bool(marks)
        # Nobody takes them while a store is away.
        while len(self._marks) > _MOST_MARKS or self._marked > _MOST_MARKED:
            self._marks = self._marks[1::2]
            self._marked = len({id(mark.after) for mark in self._marks})

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

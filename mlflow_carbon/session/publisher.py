"""Stores one session in the background, piece by piece, and finishes it.

Runs in the worker's thread only. What the store refuses waits in the outbox; what is still
there when the process goes is in the journal, and `recover` stores it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon import journal as journals
from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.errors import StoreError
from mlflow_carbon.session import final, publish
from mlflow_carbon.session.delivery import Delivery, End, File, Points, Tags, deliver
from mlflow_carbon.session.records import costing_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow_carbon.sensors import Clock, Discovery
    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.live import Session
    from mlflow_carbon.settings import Settings
    from mlflow_carbon.store import Point
    from mlflow_carbon.worker import Worker

__all__ = ["Publisher", "Surroundings"]

_logger = logging.getLogger(__name__)

_FLUSH_S = 5.0
_RETRY_S = (5.0, 15.0, 30.0, 60.0)
_EARLY_S = 120  # until then the summary is logged every 10 s, later every 30 s
_SUMMARY_S = (10, 30)
_COSTING_S = 1800  # how often a live intensity is asked for again
_TICK_PATIENCE_S = 3.0  # how long a finished run waits for its last reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a meter asks the world for. Calls are made in the background and never raise.

    Attributes:
        discover: Finds the sensors.
        costing: Intensity and PUE for settings and a UTC span in seconds.
        environment: Tags and document about this machine, for settings; may take a second.
        recover: Stores what a killed process has left of a run id, before the run is resumed.
        folder: Where journals live.
        host: Name of this machine for journal files.
        clock: The two clocks.
    """

    discover: Callable[[], Discovery]
    costing: Callable[[Settings, int, int], publish.Costing]
    environment: Callable[[Settings], tuple[dict[str, str], dict[str, Any]]]
    recover: Callable[[str], None]
    folder: Path
    host: str
    clock: Clock


class Publisher:
    """Stores one session.

    Args:
        session: What is measured.
        sink: Where it is stored; None: nowhere, only the journal and the footprint.
        surroundings: Grid, environment and recovery.
        worker: The thread this runs in.
    """

    def __init__(
        self,
        session: Session,
        sink: Sink | None,
        *,
        surroundings: Surroundings,
        worker: Worker,
    ) -> None:
        self._session = session
        self._sink = sink
        self._surroundings = surroundings
        self._worker = worker
        self._outbox: list[Delivery | _Sent] = []
        self._failures = 0
        self._shared = False
        self._previous: list[publish.Segment] | None = None
        self._offset_s = 0
        self._environment: dict[str, Any] | None = None
        self._next_summary_s = 0
        self._costed_until_s = 0
        self._end_status = ""
        self.costing: publish.Costing | None = None

    def begin(self) -> None:
        """First job of a session: costing, environment, first tags."""
        session = self._session
        self._cost_now()
        tags, document = self._surroundings.environment(session.settings)
        self._environment = document
        session.journal.append("environment", tags=tags, document=document)
        self._outbox.append(Tags(tags))
        self._outbox.append(File("environment.json", publish.json_bytes(document)))
        self.flush()

    def end_run_as(self, status: str) -> None:
        """End the MLflow run with this status once the figures are stored."""
        self._end_status = status

    def flush(self) -> None:
        """Send what is due and come back later, until the session has ended."""
        session = self._session
        if session.finished.is_set():
            return
        self._load_previous()
        self._check_sharing()
        self._collect()
        self._send()
        session.journal.sync()
        if session.journal.trouble:
            session.trouble(session.journal.trouble)
        if session.end_ns is None:
            self._worker.submit(self.flush, delay_s=self._pause_s())

    def finish(self) -> None:
        """Last job: the final figures. Leaves the journal where the store refused them."""
        session = self._session
        if not session.measured.wait(_TICK_PATIENCE_S):
            session.trouble("the sensors did not answer at the end of the run")
        try:
            self._finish()
        finally:
            session.journal.close()
            session.finished.set()

    def _finish(self) -> None:
        session = self._session
        if session.recording is None:
            session.trouble("the run ended before the first reading")
            self._outbox.append(Tags({"carbon.error": "; ".join(session.troubles), "carbon.verdict": "warn"}))
            if self._send():
                session.journal.delete()
            return
        self._load_previous()
        self._check_sharing()
        self._cost_now()
        self._collect()
        self._outbox += final.deliveries(self.ending(), session.journal.contents().records)
        if self._end_status:
            self._outbox.append(End(self._end_status))
        if self._send():
            session.journal.delete()
        elif self._sink is not None:
            _logger.warning(
                "run %s: its energy and carbon could not be stored and are kept in %s; "
                "run `mlflow-carbon recover` when the tracking server is back",
                session.spec.run_id,
                session.journal.path,
            )

    def ending(self) -> final.Ending:
        """The span as it stands, for the final figures. Needs a first reading."""
        session = self._session
        if session.recording is None:
            raise RuntimeError("expected a session with readings")
        return final.Ending(
            run_id=session.spec.run_id,
            segment_id=session.segment_id,
            end_ns=session.end_ns if session.end_ns is not None else session.recording.last_ns,
            recording=session.recording,
            costing=self.costing or self._cost_now(),
            period_s=session.settings.period_s,
            units=session.units,
            usage=session.ended.usage if session.ended is not None else None,
            troubles=tuple(session.troubles),
            shared=self._shared,
            detail=session.settings.detail,
            previous=self._previous or (),
            offset_s=self._offset_s,
            absences=session.absences,
            environment=self._environment,
        )

    def _cost_now(self) -> publish.Costing:
        session = self._session
        now_s = session.wall_start_s + self._elapsed_s()
        if self.costing is None or (self.costing.intensity.slots and now_s >= self._costed_until_s):
            self.costing = self._surroundings.costing(
                session.settings, session.wall_start_s, now_s + _COSTING_S
            )
            self._costed_until_s = now_s + _COSTING_S
            session.journal.append("costing", costing=costing_record(self.costing))
            self._outbox.append(Tags(publish.start_tags(self.costing)))
        return self.costing

    def _load_previous(self) -> None:
        """Earlier segments of a resumed run; a store that does not answer is asked again later."""
        session = self._session
        if self._previous is not None:
            return
        if self._sink is None or not session.spec.resumed:
            self._previous = []
            return
        try:
            self._surroundings.recover(session.spec.run_id)
            self._previous = publish.parse_segments(
                self._sink.read_file("footprint.json"), self._sink.read_metrics()
            )
            self._offset_s = 1 + self._sink.read_last_step("carbon/time/energy_kwh") if self._previous else 0
            session.journal.append("offset", s=self._offset_s)
        except StoreError as error:
            session.trouble(f"earlier figures of the resumed run could not be read: {error}")

    def _collect(self) -> None:
        """Turn what has been measured since the last time into points."""
        session, costing = self._session, self._cost_now()
        snapshots, marks, upto_ns = session.take()
        previous = self._previous or []
        points = [
            point
            for snapshot in snapshots
            for point in publish.snapshot_points(snapshot, costing, previous, offset_s=self._offset_s)
        ]
        points += publish.step_points(marks, costing, previous)
        points += self._summary(costing, previous)
        if points:
            self._outbox.append(Points(tuple(points)))
            self._outbox.append(_Sent(upto_ns))

    def _summary(self, costing: publish.Costing, previous: list[publish.Segment]) -> list[Point]:
        elapsed_s, series = self._elapsed_s(), self._session.series()
        if series is None or elapsed_s < self._next_summary_s or elapsed_s == 0:
            return []
        first = self._next_summary_s == 0
        self._next_summary_s = elapsed_s + _SUMMARY_S[elapsed_s >= _EARLY_S]
        whole = publish.total(previous, costing.footprint(series))
        if first:
            self._outbox.append(Tags({"carbon.basis": whole.basis, "carbon.quality": whole.quality}))
        t_ms = (self._session.wall_start_s + elapsed_s) * 1000
        return publish.summary_points(whole, t_ms=t_ms, detail=self._session.settings.detail)

    def _elapsed_s(self) -> int:
        recording = self._session.recording
        return (recording.last_ns - recording.start_ns) // NS_PER_S if recording is not None else 0

    def _send(self) -> bool:
        """Deliver in order until the store refuses; whether everything is out."""
        while self._outbox:
            item = self._outbox[0]
            try:
                if isinstance(item, _Sent):
                    self._session.journal.append("sent", t=item.upto_ns)
                elif self._sink is not None:
                    deliver(self._sink, item)
            except StoreError as error:
                self._failures += 1
                _logger.log(logging.WARNING if self._failures == 1 else logging.DEBUG, "%s", error)
                return False
            self._outbox.pop(0)
        self._failures = 0
        return True

    def _pause_s(self) -> float:
        return _RETRY_S[min(self._failures, len(_RETRY_S)) - 1] if self._failures else _FLUSH_S

    def _check_sharing(self) -> None:
        path = self._session.journal.path
        if self._shared or path is None:
            return
        mine = self._session.spec
        for other in journals.live(path.parent):
            head = journals.header(other) if other != path else None
            if head is None or head.get("run_id") in (mine.run_id, mine.parent_run_id):
                continue
            if head.get("parent_run_id") != mine.run_id:
                self._shared = True


@dataclass(frozen=True, slots=True)
class _Sent:
    """Marks in the outbox that everything before it is stored up to a reading."""

    upto_ns: int

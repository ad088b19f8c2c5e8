"""Stores one session in the background, piece by piece, and finishes it.

Runs in the worker's thread only. What the store refuses waits in the outbox; what is still
there when the process goes is in the journal, and `recover` stores it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.errors import StoreError
from mlflow_carbon.session import final, publish
from mlflow_carbon.session.delivery import End, File, Points, Tags
from mlflow_carbon.session.outbox import Outbox, SentUpTo
from mlflow_carbon.session.past import read_past
from mlflow_carbon.session.records import costing_record
from mlflow_carbon.session.sharing import is_shared

if TYPE_CHECKING:
    from mlflow_carbon.core.bill import Bill
    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.live import Session
    from mlflow_carbon.session.surroundings import Surroundings
    from mlflow_carbon.settings import Settings
    from mlflow_carbon.store import Point
    from mlflow_carbon.worker import Worker

__all__ = ["Publisher"]

_logger = logging.getLogger(__name__)

_EARLY_S = 120  # until then the summary is logged every 10 s, later every 30 s
_SUMMARY_S = (10, 30)
_COSTING_S = 1800  # how often a live intensity is asked for again
_FAILED_S = 60.0  # how long a piece that failed otherwise than by the store is left alone
_TICK_PATIENCE_S = 3.0  # how long a finished run waits for its last reading


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
        self._outbox = Outbox(sink, session.journal)
        self._shared = False
        self._previous: list[publish.Segment] | None = None
        self._offset_s = 0
        self._environment: dict[str, Any] | None = None
        self._next_summary_s = 0
        self._end_status = ""
        self._is_live = False
        self.costing: publish.Costing | None = None
        self._bill: Bill | None = None

    @property
    def knows_the_past(self) -> bool:
        """Whether figures so far can be told: not before the earlier ones of a resumed run are read."""
        return self._previous is not None or self._sink is None or not self._session.spec.resumed

    def begin(self) -> None:
        """First job of a session: costing, environment, first tags. The network comes last."""
        session = self._session
        try:
            self._cost_offline()
            tags, document = self._surroundings.environment(session.settings)
            self._environment = document
            session.journal.append("environment", tags=tags, document=document)
            self._outbox.add(Tags(tags), File("environment.json", publish.json_bytes(document)))
        finally:
            self.flush()
            if session.settings.grid != "annual":
                self._worker.submit(self._go_live)

    def end_run_as(self, status: str) -> None:
        """End the MLflow run with this status once the figures are stored."""
        self._end_status = status

    def flush(self) -> None:
        """Send what is due and come back later, until the session has ended."""
        if self._session.finished.is_set():
            return
        delay_s = _FAILED_S
        try:
            self._flush()
            delay_s = self._outbox.pause_s(self._elapsed_s())
        finally:
            if self._session.end_ns is None:
                self._worker.submit(self.flush, delay_s=delay_s)

    def _flush(self) -> None:
        self._load_previous()
        self._look_around()
        if self._previous is not None:  # else figures would lack the earlier segments: they wait
            self._collect(self.costing or self._cost_offline())
        self._outbox.send()
        if self._outbox.refusal:
            self._session.trouble(f"refused by the store: {self._outbox.refusal}")
        if self._session.journal.trouble:
            self._session.trouble(self._session.journal.trouble)

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
        self._load_previous()
        if session.recording is None:
            session.trouble("the run ended before the first reading")
            self._outbox.add(Tags({"carbon.error": "; ".join(session.troubles), "carbon.verdict": "warn"}))
        elif self._previous is None:  # a total without the earlier segments would be wrong
            self._warn_unstored()
            return
        else:
            self._look_around()
            self._ask_live()
            self._collect(self.costing or self._cost_offline())
            self._outbox.extend(final.deliveries(self.ending(), session.journal.records))
        if self._end_status:
            self._outbox.add(End(self._end_status))
        if self._outbox.send(last=True):
            session.journal.delete()
            session.stored = True
        elif self._sink is not None:
            self._warn_unstored()

    def _warn_unstored(self) -> None:
        _logger.warning(
            "run %s: its energy and carbon could not be stored and are kept in %s; "
            "run `mlflow-carbon recover` when the tracking server is back",
            self._session.spec.run_id,
            self._session.journal.path,
        )

    def ending(self) -> final.Ending:
        """The span as it stands, for figures, in any thread. Waits for nobody: neither worker nor network.

        Raises:
            RuntimeError: Before the first reading.
        """
        session = self._session
        if session.recording is None:
            raise RuntimeError("expected a session with a first reading")
        offline = replace(session.settings, grid="annual", cloud_metadata=False)
        costing = self.costing or self._costing(offline)
        bill = self._bill  # the worker may just have made another one
        return final.Ending(
            run_id=session.spec.run_id,
            segment_id=session.segment_id,
            end_ns=session.end_ns if session.end_ns is not None else session.recording.last_ns,
            recording=session.recording,
            costing=costing,
            bill=bill if bill is not None and bill.is_of(costing.intensity, costing.pue_ratio) else None,
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

    def _cost_offline(self) -> publish.Costing:
        return self._cost(replace(self._session.settings, grid="annual"))

    def _cost(self, settings: Settings) -> publish.Costing:
        """Learn what energy costs from the start of the run until a while from now."""
        fresh = self._costing(settings)
        if self.costing is not None and len(fresh.intensity.slots) < len(self.costing.intensity.slots):
            return self.costing  # the service is silent: what it said before still holds for its time
        self.costing, self._bill = fresh, fresh.bill()
        self._session.journal.append("costing", costing=costing_record(fresh))
        self._outbox.add(Tags(publish.start_tags(fresh)))
        return fresh

    def _costing(self, settings: Settings) -> publish.Costing:
        session = self._session
        last_ns = session.recording.last_wall_ns if session.recording is not None else session.began.wall_ns
        return self._surroundings.costing(settings, session.wall_start_s, last_ns // NS_PER_S + _COSTING_S)

    def _go_live(self) -> None:
        """Ask a live service, where the settings name one; again every half hour, also after a failure."""
        if self._session.end_ns is not None:
            return
        try:
            self._is_live = True
            self._cost(self._session.settings)
        finally:
            self._worker.submit(self._go_live, delay_s=_COSTING_S)

    def _ask_live(self) -> None:
        """Ask once for a run that was over before its turn came: else it would have the annual figure."""
        if not self._is_live and self._session.settings.grid != "annual":
            self._is_live = True
            self._cost(self._session.settings)

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
            past = read_past(self._sink)
            self._previous, self._offset_s = list(past.segments), past.offset_s
            session.journal.append("offset", **past.record())
        except StoreError as error:
            # Without the error's text, which may differ each time and would fill the tag.
            session.trouble("earlier figures of the resumed run could not be read at first")
            _logger.debug("run %s: %s", session.spec.run_id, error)

    def _collect(self, costing: publish.Costing) -> None:
        """Turn what has been measured since the last time into points."""
        session = self._session
        snapshots, marks, upto_ns = session.take()
        previous = self._previous or []
        points = [
            point
            for snapshot in snapshots
            for point in publish.snapshot_points(
                snapshot, costing, previous, offset_s=self._offset_s, bill=self._bill
            )
        ]
        points += publish.step_points(marks, costing, previous, bill=self._bill)
        points += self._summary(costing, previous)
        if points:
            self._outbox.add(Points(tuple(points)), SentUpTo(upto_ns))

    def _summary(self, costing: publish.Costing, previous: list[publish.Segment]) -> list[Point]:
        elapsed_s, series = self._elapsed_s(), self._session.series()
        if series is None or elapsed_s < self._next_summary_s or elapsed_s == 0 or self._outbox.is_stuck:
            return []
        first = self._next_summary_s == 0
        self._next_summary_s = elapsed_s + _SUMMARY_S[elapsed_s >= _EARLY_S]
        whole = publish.total(previous, costing.footprint(series, self._bill))
        if first:
            self._outbox.add(Tags({"carbon.basis": whole.basis, "carbon.quality": whole.quality}))
        return publish.summary_points(
            whole, t_ms=self._now_ms(previous), detail=self._session.settings.detail
        )

    def _look_around(self) -> None:
        path = self._session.journal.path
        if path is not None and not self._shared:
            self._shared = is_shared(self._session.spec, path)
            if self._shared:
                self._session.journal.append("shared")

    def _now_ms(self, previous: list[publish.Segment]) -> int:
        """UTC time of the last reading, but not before earlier segments: their host's clock may be ahead."""
        session = self._session
        last_ns = session.recording.last_wall_ns if session.recording is not None else session.began.wall_ns
        return max(last_ns // 1_000_000, *(segment.end_ms for segment in previous), 0)

    def _elapsed_s(self) -> int:
        recording = self._session.recording
        return (recording.last_ns - recording.start_ns) // NS_PER_S if recording is not None else 0

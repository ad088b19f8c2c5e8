"""The one meter of a process: a sampler, a worker, a keeper of journals and the sessions that share them.

The module's only state is the meter of each process id (so a forked child starts without one)
and the ContextVar with the sessions that are active in a context.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from mlflow_carbon import journal as journals
from mlflow_carbon.journal import Journal
from mlflow_carbon.sampler import Sampler
from mlflow_carbon.session import exits, machines
from mlflow_carbon.session.desk import Desk
from mlflow_carbon.session.live import RunSpec, Session
from mlflow_carbon.session.peers import Peers
from mlflow_carbon.session.usage import used
from mlflow_carbon.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.publisher import Publisher
    from mlflow_carbon.session.surroundings import Surroundings
    from mlflow_carbon.settings import Settings

__all__ = ["OWNER_VARIABLE", "Meter", "active_sessions", "current", "innermost", "install"]

_logger = logging.getLogger(__name__)

OWNER_VARIABLE = "MLFLOW_CARBON_OWNER"
EXIT_S = 10.0
_FIRST_S = 0.05  # at most, and once: what the first run waits for the first reading of counters
_TICK_S = 1.0  # at most: what storing waits for the first reading

_METERS: dict[int, Meter] = {}
_ACTIVE: ContextVar[tuple[Session, ...]] = ContextVar("mlflow_carbon_active", default=())


class Meter:
    """Measures runs of this process.

    Args:
        settings: Settings of the sensors and the sampler.
        surroundings: Everything outside: sensors, grid, environment, folder, clock.
        unstored: Runs of an earlier meter that wait in their journals, for `flush` to tell of.
    """

    def __init__(
        self, settings: Settings, surroundings: Surroundings, *, unstored: Iterable[Session] = ()
    ) -> None:
        self.settings = settings
        self.sampler = Sampler(
            discover=surroundings.discover, period_s=settings.period_s, clock=surroundings.clock
        )
        self.worker = Worker()
        self.keeper = Worker("mlflow-carbon-keeper")
        self.peers = Peers(self.worker)
        self._surroundings = surroundings
        self._lock = threading.Lock()
        self._desks: dict[str, Desk] = {}
        self._ending = list(unstored)
        self._exit_by_s: float | None = None
        self._has_warned = False

    def start(self, spec: RunSpec, settings: Settings, sink: Sink | None) -> Session | None:
        """Measure a run from now on; None if this process, its parent or another rank measures it already."""
        if _owned_by_other(spec.run_id):
            return None
        settings = self.settings.sensing_of(settings)
        with self._lock:
            if spec.run_id in self._desks:
                return None
            journal = _journal(spec, self._surroundings)
            if journal is None:
                _logger.info("run %s is measured by another process of this machine", spec.run_id)
                return None
            session = Session(
                spec,
                settings,
                journal=journal,
                clock=self._surroundings.clock,
                cpu_times=lambda: used(sum(t.cpu_ns for t in (self.sampler, self.worker, self.keeper))),
            )
            view = partial(self.peers.view, session, sink)
            desk = Desk(session, view, surroundings=self._surroundings, worker=self.worker)
            session.start()  # before anybody can find it: the header is the first record
            self._desks[spec.run_id] = desk
        incomplete = machines.finding(os.environ) if spec.node is None else None
        if incomplete is not None:
            session.trouble(incomplete)
        if session.journal.trouble:
            _logger.warning(
                "mlflow-carbon: %s; the run is measured, but could not be recovered after a crash",
                session.journal.trouble,
            )
        self.sampler.subscribe(session)
        # What storing imports would be in the way of the first reading.
        self.worker.submit(lambda: self.sampler.wait_for_tick(session.start_ns, _TICK_S))
        self.worker.submit(desk.begin)
        self.keeper.submit(lambda: desk.keep(self.keeper))
        _ACTIVE.set((*_alive(_ACTIVE.get()), session))
        _claim(self._desks)
        # Beside a thread that computes, finding the counters takes forty times as long as while it waits.
        self._surroundings.counters_read.wait(_FIRST_S)
        return session

    def stop(self, run_id: str, status: str, *, end_run: bool = False) -> Session | None:
        """End a run now; its figures are stored in the background. None if it is not measured.

        Args:
            run_id: The run.
            status: Its status, for the journal.
            end_run: Whether to end the MLflow run too, because nobody else will.
        """
        with self._lock:
            desk = self._desks.pop(run_id, None)
            if desk is None:
                return None
            session = desk.session
            self._ending = [s for s in self._ending if not s.stored]
            self._ending.append(session)
        session.stop(status)
        self.sampler.poke()
        self.worker.submit(lambda: self._finish(desk, status if end_run else ""))
        _ACTIVE.set(_alive(_ACTIVE.get()))
        _claim(self._desks)
        return session

    def flush(self, timeout_s: float) -> bool:
        """Wait until every ended run is stored or given up; whether all are stored."""
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            waiting = tuple(self._ending)
        finished = [s.finished.wait(max(0.0, deadline_s - time.monotonic())) for s in waiting]
        return all(finished) and all(s.stored for s in waiting)

    def stop_all(self, status: str, timeout_s: float, *, end_runs: bool = False) -> None:
        """Stop measuring whatever still runs, and wait for the storing."""
        for run_id in tuple(self._desks):
            self.stop(run_id, status, end_run=end_runs)
        self.flush(timeout_s)
        if any(not session.finished.is_set() for session in self._ending) and not self._has_warned:
            self._has_warned = True
            _logger.warning("not everything could be stored in time; run `mlflow-carbon recover` later")

    def patience_s(self) -> float:
        """What is left of the time that the end of a process may take; it starts with the first question."""
        now_s = time.monotonic()
        self._exit_by_s = self._exit_by_s or now_s + EXIT_S
        return max(0.0, self._exit_by_s - now_s)

    def newest(self) -> Session | None:
        """The session that started last and still runs."""
        desks = list(self._desks.values())
        return desks[-1].session if desks else None

    def publisher(self, session: Session) -> Publisher | None:
        """Who stores a running session."""
        desk = self._desks.get(session.spec.run_id)
        return desk.publisher() if desk is not None else None

    def is_idle(self) -> bool:
        """Whether no run is being measured or stored."""
        return not self._desks and all(s.finished.is_set() for s in self._ending)

    def unstored(self) -> tuple[Session, ...]:
        """Ended runs that are not stored."""
        return tuple(session for session in self._ending if not session.stored)

    def retire(self) -> None:
        """Let threads and sensors go; a run that is started after all brings them back."""
        self.sampler.retire()
        self.worker.retire()
        self.keeper.retire()

    def forget(self) -> None:
        """In a forked child: let go of the parent's journals."""
        for session in (*(desk.session for desk in self._desks.values()), *self._ending):
            session.journal.forget()

    def _finish(self, desk: Desk, end_status: str) -> None:
        try:
            desk.finish(end_status)
        finally:
            self.sampler.unsubscribe(desk.session)
            self.peers.watch(desk.session)


def current() -> Meter | None:
    """The meter of this process, if it has one."""
    return _METERS.get(os.getpid())


def install(meter: Meter) -> Meter:
    """Make a meter this process's own, and stop its runs at exit and at SIGTERM."""
    if os.getpid() not in _METERS:
        atexit.register(_at_exit, os.getpid())
        exits.before_pools_close(partial(_at_end_of_main, os.getpid()))
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
        exits.at_sigterm(_at_sigterm)
    _METERS[os.getpid()] = meter
    return meter


def active_sessions() -> tuple[Session, ...]:
    """Sessions active in this context, outermost first; else the newest of the process."""
    sessions = _alive(_ACTIVE.get())
    if sessions:
        return sessions
    meter = current()
    newest = meter.newest() if meter is not None else None
    return (newest,) if newest is not None else ()


def innermost() -> Session | None:
    """The session that this context is in, if any."""
    sessions = _alive(_ACTIVE.get())
    return sessions[-1] if sessions else None


def _journal(spec: RunSpec, around: Surroundings) -> Journal | None:
    """A journal for a run; None if another process of this machine has one: a node counts once."""
    with journals.starting(around.folder):
        if spec.stored and journals.is_measured(around.folder, spec.run_id, around.host):
            return None
        return Journal(around.folder, spec.run_id, host=around.host)


def _claim(run_ids: Iterable[str]) -> None:
    """Tell child processes which runs are measured here."""
    mine = ",".join(tuple(run_ids))
    if mine:
        os.environ[OWNER_VARIABLE] = f"{os.getpid()}:{mine}"
    elif os.environ.get(OWNER_VARIABLE, "").startswith(f"{os.getpid()}:"):
        del os.environ[OWNER_VARIABLE]


def _alive(sessions: tuple[Session, ...]) -> tuple[Session, ...]:
    return tuple(s for s in sessions if s.end_ns is None)


def _owned_by_other(run_id: str) -> bool:
    """Whether a living ancestor process already measures this run."""
    pid, _, owned = os.environ.get(OWNER_VARIABLE, "").partition(":")
    if run_id not in owned.split(",") or not pid.isdigit() or int(pid) == os.getpid():
        return False
    import psutil

    return psutil.pid_exists(int(pid))


def _at_end_of_main(pid: int) -> None:
    meter = _METERS.get(pid)
    if meter is None or pid != os.getpid():
        return
    others = [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    if others:  # they may train for hours: only what has ended is stored, and the time of the exit is not yet
        meter.flush(EXIT_S)
    else:
        _stop(meter)


def _at_exit(pid: int) -> None:
    meter = _METERS.get(pid)
    if meter is not None and pid == os.getpid():
        _stop(meter)


def _stop(meter: Meter) -> None:
    meter.stop_all("", meter.patience_s())
    meter.peers.wait(meter.patience_s())


def _after_fork() -> None:
    """A forked child has neither our threads nor our runs, and ends at SIGTERM as it would without us."""
    for meter in _METERS.values():
        meter.forget()
    _METERS.clear()
    _ACTIVE.set(())
    exits.leave_sigterm()


def _at_sigterm() -> None:
    meter = current()
    if meter is not None:
        meter.stop_all("KILLED", exits.SIGTERM_S, end_runs=True)

"""The verbs inside a run: `phase`, `count`, `log_step`, `snapshot`, and `flush` after it.

They work on the active session of the calling context and never raise into the caller's code.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self

from mlflow_carbon.session import meter
from mlflow_carbon.session.phase_clock import wait_for_device

if TYPE_CHECKING:
    from types import TracebackType

    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.session.live import Session

__all__ = ["count", "flush", "log_step", "phase", "snapshot"]

_logger = logging.getLogger("mlflow_carbon")
_SNAPSHOT_S = 0.2
_STEPS = 2**63


class phase:  # noqa: N801 - a verb, used like a function
    """Mark the code inside as a phase of the active run: data, forward, backward, update ...

    A mark costs a microsecond or two and waits for nothing.

    Args:
        name: Its name.
        sync: Wait for the CUDA device at both edges, so that work counts where it was asked for. It slows the
            training: only for looking closely.
    """

    __slots__ = ("_name", "_sessions", "_sync")

    def __init__(self, name: str, *, sync: bool = False) -> None:
        self._name = name
        self._sync = sync
        self._sessions: tuple[Session, ...] = ()

    def __enter__(self) -> Self:
        if self._sync:
            wait_for_device()
        self._sessions = meter.active_sessions()
        for session in self._sessions:
            session.phases.enter(self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sync:
            wait_for_device()
        for session in self._sessions:
            session.phases.leave()


def count(unit: str, amount: float = 1) -> None:
    """Count functional units of the active run: images, tokens, samples. They divide the emissions (SCI).

    A count that is not a finite number of at least 0 is left out and shows as `carbon.error`.
    """
    for session in meter.active_sessions():  # a run around another contains its energy, so its units too
        session.count(unit, amount)


def log_step(step: int) -> None:
    """Log energy and emissions so far as `carbon/step/*` at a training step. Never waits.

    A step that is no whole number is left out and shows as `carbon.error`.
    """
    owner = meter.current()
    stored = [session for session in meter.active_sessions() if session.spec.stored]
    if owner is None or not stored:
        return
    try:
        number = int(step)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several
        number = _STEPS
    if -_STEPS < number < _STEPS:
        stored[-1].mark(number)
        owner.sampler.poke(unless_within_s=owner.settings.period_s / 2)
    else:
        stored[-1].trouble(f"log_step: expected a whole number of 64 bits, got {type(step).__name__}")


def snapshot() -> RunFootprint | None:
    """Figures of the active run so far, earlier segments of a resumed run included.

    Waits at most 0.2 s for a fresh reading. None when nothing is measured.
    """
    owner = meter.current()
    sessions = meter.active_sessions()
    if owner is None or not sessions:
        return None
    session = sessions[-1]
    publisher = owner.publisher(session)
    if publisher is None or not publisher.knows_the_past:
        return None
    try:
        from mlflow_carbon.core.totals import combine
        from mlflow_carbon.session import final

        asked_ns = session.now_ns()
        owner.sampler.poke()
        owner.sampler.wait_for_tick(asked_ns, _SNAPSHOT_S)
        with session.still():
            ending = publisher.ending()
            figures, _ = final.footprint(ending)
        return combine([*(s.footprint for s in ending.previous), figures])
    except Exception:
        _logger.debug("no snapshot", exc_info=True)
        return None


def flush(timeout_s: float = 10.0) -> bool:
    """Wait until the figures of every run that has ended are stored; whether they are.

    False after the timeout, and where a store refused some: those wait in the journal for `recover`.
    """
    owner = meter.current()
    return owner.flush(timeout_s) if owner is not None else True

"""What an earlier process has left of a submission, and what that means for this one.

A training is never run twice in silence: what still trains is left alone, what has finished is not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.core.times import second
from mlflow_carbon.errors import SubmissionError
from mlflow_carbon.scheduling.state import WAITING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.scheduling.seams import Project
    from mlflow_carbon.scheduling.state import Seat, State

__all__ = ["Left", "pick_up"]

_STALE_S = 86_400.0
"""After its last time to start, a submission is still the same for a day; then the command is a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of a submission.

    Attributes:
        state: As it was saved; None if there is nothing to go on with.
        is_same_run: Whether its run goes on; else a new run takes over its times.
        ended_s: When its training ended, which finished without its launcher; None if it did not.
    """

    state: State | None = None
    is_same_run: bool = False
    ended_s: float | None = None


def pick_up(seat: Seat, project: Project, *, now_s: float, host: str, tell: Callable[[str], None]) -> Left:
    """Look what is left.

    Raises:
        SubmissionError: If the training may still be running.
        StoreError: If the server cannot say how the run stands.
    """
    state, trouble = seat.load()
    if trouble or seat.trouble:
        tell(trouble or seat.trouble)
    if state is None:
        return Left()
    standing = project.run(state.run_id).standing()
    if standing is None:
        tell(f"run {state.run_id} of this submission is not there any more: starting anew")
        return Left()
    status, ended_s = standing
    if state.phase != WAITING:
        return _trained(state, project, status, ended_s or now_s, host=host, tell=tell)
    if not -_STALE_S <= now_s - state.submitted_s <= state.max_wait_s + _STALE_S:
        tell(f"run {state.run_id} was submitted {second(state.submitted_s)}: too long ago to go on with it")
        _end(project, state, "left waiting, and too old to go on with")
        return Left()
    if status in {"FINISHED", "FAILED"}:
        tell(f"run {state.run_id} was ended ({status}) while nobody waited: starting anew")
        return Left()
    tell(f"going on with run {state.run_id}, submitted {second(state.submitted_s)}, with the same deadline")
    return Left(state=state, is_same_run=True)


def _trained(
    state: State, project: Project, status: str, ended_s: float, *, host: str, tell: Callable[[str], None]
) -> Left:
    """The launcher died after the training had started."""
    run = f"run {state.run_id}, whose launcher died while it trained,"
    trainers = project.trainers(state.run_id)
    if trainers:
        raise SubmissionError(
            f"{run} is still training here (processes {', '.join(map(str, trainers))}): "
            "expected it to be over; wait for it, or end it"
        )
    is_open = status not in {"FINISHED", "FAILED", "KILLED"}  # its start may not have reached the server
    if is_open and (state.host != host or state.backend != "local"):
        where = "on another machine" if state.host != host else f"through the backend {state.backend!r}"
        raise SubmissionError(
            f"{run} ran {where} and may still train there: end it there and set its status, then submit again"
        )
    if status == "FINISHED":
        tell(f"{run} has finished: it is not run again; submit once more for a new run")
        return Left(state=state, is_same_run=True, ended_s=ended_s)
    if status == "FAILED":
        tell(f"{run} has failed: this is a new submission")
        return Left()
    tell(f"{run} does not say how it ended: it is started again as a new run with the same deadline")
    _end(project, state, "its launcher died and nobody saw how it ended; started again as another run")
    return Left(state=state)


def _end(project: Project, state: State, why: str) -> None:
    run = project.run(state.run_id)
    run.write_tags({"carbon.plan.outcome": why})
    run.end("KILLED")

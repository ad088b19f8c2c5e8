"""Run a project when the grid is clean: from what was left to what it was worth."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_carbon.errors import SubmissionError
from mlflow_carbon.scheduling.account import plan_tags
from mlflow_carbon.scheduling.endings import sigterm_raises
from mlflow_carbon.scheduling.resume import Left, pick_up
from mlflow_carbon.scheduling.settle import Over, settle
from mlflow_carbon.scheduling.state import State
from mlflow_carbon.scheduling.submission import Submission

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_carbon.scheduling.config import PlanConfig
    from mlflow_carbon.scheduling.order import Order
    from mlflow_carbon.scheduling.seams import Child
    from mlflow_carbon.scheduling.submission import Ran, World

__all__ = ["submit"]

_logger = logging.getLogger("mlflow_carbon")


def submit(config: PlanConfig, world: World, *, tracking_uri: str) -> str:
    """Plan, wait, run the project and log what it was worth.

    Args:
        config: What is asked for.
        world: What it meets.
        tracking_uri: Where the run lives, without user info, for the state file.

    Returns:
        The run of the training, which has finished; perhaps by itself, after its launcher had died.

    Raises:
        SubmissionError: If the training failed, could not be started, or may still be running.
        SettingsError: If it cannot be planned at all.
        StoreError: If the server cannot say how an earlier run of this submission stands.
    """
    now_s, tell = world.clock.wall_s(), world.display.line
    if world.seat.number > 1:
        tell("the same submission waits already: this is another one, with its own run")
    left = pick_up(world.seat, world.project, now_s=now_s, host=world.host, tell=tell)
    if left.state is not None and left.ended_s is not None:
        _settle_left(config, left.state, left.ended_s, world)
        world.seat.clear()
        return left.state.run_id
    state = _state(config, left, now_s, world, tracking_uri)
    order = _order(config, state)
    if order.is_too_late:
        tell("the deadline cannot be met even at once: it starts now")
    submission = Submission(config, order, state, world)
    with sigterm_raises():
        waited = submission.hold()
        ran = submission.train(waited)
        is_told = submission.close(succeeded=ran.succeeded)
        _settle(submission, config, ran, world)
        if is_told:
            world.seat.clear()
    if not ran.succeeded:
        raise SubmissionError(
            f"run {ran.child.run_id} failed: the project ended with an error, see its output"
        )
    return ran.child.run_id or state.run_id


def _order(config: PlanConfig, state: State) -> Order:
    return config.order(
        submitted_s=state.submitted_s, max_wait_s=state.max_wait_s, finish_by_s=state.finish_by_s
    )


def _state(config: PlanConfig, left: Left, now_s: float, world: World, tracking_uri: str) -> State:
    """The state to go on with: that of the run that waited, or of a new run."""
    if left.state is not None and left.is_same_run:
        world.project.pin(left.state.version)
        return replace(left.state, host=world.host, pid=world.pid)
    before = left.state
    state = State(
        run_id=world.project.create(),
        tracking_uri=tracking_uri,
        version=world.project.version,
        # What a training that was lost has waited for is not to the credit of the one that repeats it.
        submitted_s=now_s,
        max_wait_s=_left_s(before, now_s) if before is not None else config.job.max_wait_s,
        finish_by_s=before.finish_by_s if before is not None else config.finish_by_s,
        policy=config.policy,
        host=world.host,
        pid=world.pid,
    )
    try:
        world.seat.save(state)
    except OSError as error:
        world.display.line(f"the state cannot be kept ({error.strerror}): a restart would begin anew")
    return state


def _left_s(before: State, now_s: float) -> float:
    """What is left of the wait of an earlier run, so that its deadline stays."""
    return max(0.0, before.submitted_s + before.max_wait_s - now_s)


def _tag_child(state: State, child: Child, world: World) -> str:
    """The run that holds the training; a backend that makes its own leaves ours as the plan of it."""
    run_id = child.run_id or state.run_id
    if run_id != state.run_id and state.plans:
        world.project.run(state.run_id).write_tags(
            {"carbon.kind": "plan", "carbon.plan.outcome": f"ran as {run_id}"}
        )
        world.project.run(run_id).write_tags(plan_tags(state.plans))
    return run_id


def _settle(submission: Submission, config: PlanConfig, ran: Ran, world: World) -> None:
    """Log what came of it."""
    state = submission.state
    with _only_told():
        over = Over(
            run_id=_tag_child(state, ran.child, world),
            order=submission.order,
            state=state,
            started_s=ran.started_s,
            ended_s=ran.ended_s,
            first=submission.first,
            footprint=ran.footprint,
        )
        settle(over, config, world)


def _settle_left(config: PlanConfig, state: State, ended_s: float, world: World) -> None:
    """The same for a training that has outlived its launcher."""
    started_s = state.started_s or state.submitted_s
    with _only_told():
        over = Over(
            run_id=state.run_id,
            order=_order(config, state),
            state=state,
            started_s=started_s,
            ended_s=max(ended_s, started_s + 1e-3),
        )
        settle(over, config, world)


@contextmanager
def _only_told() -> Iterator[None]:
    """Whatever fails once the training is over must not change how it ended."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the training is over: it ends as it ended
        _logger.warning("the outcome of the plan could not be logged: %s: %s", type(error).__name__, error)

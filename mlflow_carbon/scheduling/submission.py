"""One submission from its plan to what it was worth: plan, wait, train, tell.

The state on disk is always ahead of what is done, and a server that is down holds up no start.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_carbon.errors import SubmissionError
from mlflow_carbon.scheduling.account import plan_row, plan_tags, span, why_static
from mlflow_carbon.scheduling.advice import elsewhere
from mlflow_carbon.scheduling.board import Board
from mlflow_carbon.scheduling.endings import Terminated
from mlflow_carbon.scheduling.state import RUNNING, WAITING
from mlflow_carbon.scheduling.wait import wait
from mlflow_carbon.store import first_line

if TYPE_CHECKING:
    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.scheduling.advice import Advice, Look
    from mlflow_carbon.scheduling.config import PlanConfig
    from mlflow_carbon.scheduling.order import Order
    from mlflow_carbon.scheduling.progress import Display
    from mlflow_carbon.scheduling.seams import Child, Project
    from mlflow_carbon.scheduling.state import Seat, State
    from mlflow_carbon.scheduling.wait import WaitClock, Waited

__all__ = ["Ran", "Submission", "World"]

_MOST_JITTER_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a submission meets.

    Attributes:
        project: What is to run, and MLflow.
        look: How the grid is asked.
        clock: Clocks and sleep.
        display: Where the wait is shown.
        seat: Where its state is kept.
        host: Name of this machine.
        pid: This process.
    """

    project: Project
    look: Look
    clock: WaitClock
    display: Display
    seat: Seat
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A training that is over.

    Attributes:
        child: As MLflow has it.
        succeeded: Whether it went well.
        started_s: When it started, UTC seconds since the epoch.
        ended_s: When it ended, by the monotonic clock from then.
        footprint: Of this machine around it, if it was measured.
    """

    child: Child
    succeeded: bool
    started_s: float
    ended_s: float
    footprint: RunFootprint | None


class Submission:
    """A submission whose run exists.

    Args:
        config: What is asked for.
        order: The same, as of its submission.
        state: As it is on disk.
        world: What it meets.
    """

    def __init__(self, config: PlanConfig, order: Order, state: State, world: World) -> None:
        self.order = order
        self.state = state
        self.first: Advice | None = None
        self._config = config
        self._world = world
        self._board = Board(world.project.run(state.run_id), world.display.line)

    def hold(self) -> Waited:
        """Wait as the plans say, telling of each.

        Raises:
            SettingsError: If it cannot be planned at all; the run has failed then.
            KeyboardInterrupt: At Ctrl-C; the run is killed, and nothing is left to go on with.
            Terminated: At SIGTERM; the run is killed, and the same command goes on with it.
        """
        self._board.status("SCHEDULED")
        try:
            return wait(
                self.order,
                self._world.look,
                clock=self._world.clock,
                progress=self._world.display.progress,
                planned=self._planned,
                jitter_s=zlib.crc32(self.state.run_id.encode()) % _MOST_JITTER_S,
            )
        except KeyboardInterrupt:
            self._end("KILLED", "interrupted while waiting")
            raise
        except Terminated:
            self._end("KILLED", "terminated while waiting; the same command goes on with it", is_over=False)
            raise
        except Exception as error:
            self._end("FAILED", f"could not be planned: {error}")
            raise

    def train(self, waited: Waited) -> Ran:
        """Run the project and wait for it.

        Raises:
            SubmissionError: If it could not be started; the run has failed then.
            KeyboardInterrupt: At Ctrl-C; the training and the run are killed.
            Terminated: At SIGTERM; as above, and the same command starts it again.
        """
        world, zone = self._world, waited.last.plan.zone
        target = self._config.target(zone)
        given = self._given(zone)
        began_s, started_s = world.clock.monotonic_s(), world.clock.wall_s()
        self._keep(replace(self.state, phase=RUNNING, started_s=started_s, zone=zone, backend=target.backend))
        child: Child | None = None
        try:
            self._board.status("RUNNING")
            self._board.settle()
            why = "; ".join((waited.reason, *why_static(waited.last)))
            world.display.line(f"starting after {span(waited.wait_s)}: {why}")
            with world.project.measure(self.state.run_id, target, given) as measured:
                child = world.project.launch(self.state.run_id, target, given)
                succeeded = child.wait()
        except (KeyboardInterrupt, Terminated) as error:
            if child is not None:
                child.cancel()
            is_over = isinstance(error, KeyboardInterrupt)
            how = "interrupted" if is_over else "terminated"
            self._end("KILLED", f"{how} while training", is_over=is_over)
            raise
        except Exception as error:
            why = first_line(error)  # an address of git may hold a password
            how = "could not run it" if child is None else "lost sight of it, and it may still train"
            is_told = self._end("FAILED", f"backend {target.backend!r} {how}: {why}")
            if not is_told and child is None:  # nothing has run, and the run waits as before
                self._keep(replace(self.state, phase=WAITING, started_s=None))
            raise SubmissionError(
                f"run {self.state.run_id}: backend {target.backend!r} {how}: {why}"
            ) from error
        return Ran(
            child=child,
            succeeded=succeeded,
            started_s=started_s,
            ended_s=started_s + max(1e-3, world.clock.monotonic_s() - began_s),
            footprint=measured.footprint,
        )

    def close(self, *, succeeded: bool) -> bool:
        """End the run, if its training has not; whether the server knows."""
        return self._end("FINISHED" if succeeded else "FAILED", "", is_over=False)

    def _given(self, zone: str) -> dict[str, str]:
        """Settings for the project: what the configuration names, or the zone that it was moved to."""
        place = next((place for place in self.order.places if place.zone == zone), None)
        if place is None:
            return dict(self._config.given)
        return {"zone": zone, "grid": elsewhere(self.order, place).grid}

    def _planned(self, advice: Advice) -> None:
        """Keep and tell a plan, unless it is the one before."""
        self._world.display.planned(advice)
        row = plan_row(advice, at_s=self._world.clock.wall_s(), length_s=self.order.job.length_s)
        before = self.state.plans[-1] if self.state.plans else {}
        is_same = all(row[name] == before.get(name) for name in ("start_utc", "zone", "is_now"))
        if not is_same:
            baseline = self.state.baseline_gco2e_per_kwh
            self._keep(
                replace(
                    self.state,
                    phase=WAITING,
                    start_s=advice.plan.start_s,
                    baseline_gco2e_per_kwh=row["home_gco2e_per_kwh"] if baseline is None else baseline,
                    source=advice.plan.source,
                    zone=advice.plan.zone,
                    plans=(*self.state.plans, row),
                )
            )
        if not is_same or self.first is None:
            self._board.tags(plan_tags(self.state.plans))
        self.first = self.first or advice

    def _keep(self, state: State) -> None:
        self.state = replace(state, host=self._world.host, pid=self._world.pid)
        try:
            self._world.seat.save(self.state)
        except OSError as error:
            self._world.display.line(
                f"the state cannot be kept ({error.strerror}): a restart would begin anew"
            )

    def _end(self, status: str, why: str, *, is_over: bool = True) -> bool:
        """End the run; where that cannot be told, the state stays, so that the same command can."""
        if why:
            self._world.display.line(f"run {self.state.run_id} {status}: {why}")
        is_told = self._board.end(status, why)
        if not is_told:
            self._world.display.line(
                f"the server has not taken the end of run {self.state.run_id} ({status})"
            )
        elif is_over:
            self._world.seat.clear()
        return is_told

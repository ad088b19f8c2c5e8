"""Telling MLflow of a submission from a thread of its own: its client may try for minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.errors import StoreError
from mlflow_carbon.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_carbon.scheduling.seams import Run

__all__ = ["Board"]

_PATIENCE_S = 20.0  # for the server to take what it was told, before the training starts and at the end


class Board:
    """What is told of one run, in order.

    Args:
        run: The run.
        say: Takes a line about a server that is away, once.
    """

    def __init__(self, run: Run, say: Callable[[str], None]) -> None:
        self._run = run
        self._say = say
        self._worker = Worker("mlflow-carbon-plan")
        self._has_warned = False

    def status(self, status: str) -> None:
        """`SCHEDULED` or `RUNNING`."""
        self._tell(lambda: self._run.set_status(status))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._tell(lambda: self._run.write_tags(tags))

    def settle(self) -> None:
        """Wait until all is told, but not for ever."""
        self._worker.drain(_PATIENCE_S)

    def end(self, status: str, why: str) -> bool:
        """End the run, with the reason in its tags; whether the server has taken it in time."""
        ended: list[bool] = []

        def end() -> None:
            if why:
                self._run.write_tags({"carbon.plan.outcome": why})
            self._run.end(status)
            ended.append(True)

        self._tell(end)
        self.settle()
        return bool(ended)

    def _tell(self, what: Callable[[], None]) -> None:
        def told() -> None:
            try:
                what()
            except StoreError as error:
                if not self._has_warned:
                    self._has_warned = True
                    self._say(f"{error}; the plan goes on without it")

        self._worker.submit(told)

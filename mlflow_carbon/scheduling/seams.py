"""What a submission needs of MLflow and of the machine, as protocols; `backend` has the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.scheduling.config import Target
    from mlflow_carbon.store import Point

__all__ = ["Child", "Measured", "Project", "Run"]


class Run(Protocol):
    """One MLflow run. Calls may block and raise `StoreError`."""

    def standing(self) -> tuple[str, float | None] | None:
        """Status and UTC end in seconds; None if there is no such run."""

    def set_status(self, status: str) -> None:
        """`SCHEDULED` or `RUNNING`."""

    def end(self, status: str, t_ms: int | None = None) -> None:
        """End it, if it has not ended."""

    def write_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""

    def write_points(self, points: Iterable[Point]) -> None:
        """Log metrics."""

    def write_file(self, name: str, content: bytes) -> None:
        """Store `carbon/<name>`."""

    def read_metrics(self) -> dict[str, float]:
        """Latest values of the `carbon/` metrics."""


class Child(Protocol):
    """A training that was started: MLflow's `SubmittedRun`."""

    @property
    def run_id(self) -> str:
        """Its MLflow run."""

    def wait(self) -> bool:
        """Wait until it is over; whether it went well."""

    def cancel(self) -> None:
        """End it."""


class Measured(Protocol):
    """The machine's figures of a block."""

    @property
    def footprint(self) -> RunFootprint | None:
        """After the block; None if nothing could be measured."""


class Project(Protocol):
    """The project to run, as MLflow knows it."""

    @property
    def version(self) -> str:
        """The commit that is run, of a project from git; else empty."""

    def pin(self, version: str) -> None:
        """Run this commit, of a project from git; empty: as it was given."""

    def create(self) -> str:
        """A new run for it, with its parameters; its id."""

    def run(self, run_id: str) -> Run:
        """Access to a run."""

    def launch(self, run_id: str, target: Target, settings: Mapping[str, str]) -> Child:
        """Start it through a backend, with settings of ours for its environment."""

    def trainers(self, run_id: str) -> list[int]:
        """Processes of this machine that are in a run."""

    def measure(
        self, run_id: str, target: Target, settings: Mapping[str, str]
    ) -> AbstractContextManager[Measured]:
        """Measure this machine around a run, where the backend runs it here."""

    def publish(self, run_id: str, footprint: RunFootprint) -> None:
        """Store figures of a run that has none."""

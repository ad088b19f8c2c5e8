"""The project backend `carbon`: `mlflow run ANY_URI -b carbon -c carbon.json`, run when the grid is clean.

MLflow loads this for `-b carbon` only. What it takes of MLflow is in `project`, the rest in `scheduling`.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException
from mlflow.projects import utils as projects
from mlflow.projects.backend import loader
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun

from mlflow_carbon import grid
from mlflow_carbon import settings as setup
from mlflow_carbon.assembly import host
from mlflow_carbon.errors import CarbonError, SettingsError
from mlflow_carbon.project import BUILT_IN, MlflowProject
from mlflow_carbon.scheduling.advice import system_look
from mlflow_carbon.scheduling.config import parse
from mlflow_carbon.scheduling.endings import Terminated, die_of_sigterm
from mlflow_carbon.scheduling.progress import Display
from mlflow_carbon.scheduling.state import key_of, seat
from mlflow_carbon.scheduling.submission import World
from mlflow_carbon.scheduling.submit import submit
from mlflow_carbon.scheduling.wait import SystemClock
from mlflow_carbon.store import portable_uri

if TYPE_CHECKING:
    from mlflow_carbon.scheduling.advice import Look
    from mlflow_carbon.scheduling.config import PlanConfig
    from mlflow_carbon.scheduling.wait import WaitClock

__all__ = ["CarbonBackend"]

_MLFLOW_KEYS = (
    projects.PROJECT_ENV_MANAGER,
    projects.PROJECT_SYNCHRONOUS,
    projects.PROJECT_DOCKER_ARGS,
    projects.PROJECT_STORAGE_DIR,
    projects.PROJECT_BUILD_IMAGE,
    projects.PROJECT_DOCKER_AUTH,
)
_INTERRUPTED = 130  # as a shell says of Ctrl-C


class CarbonBackend(AbstractBackend):
    """Plans, waits, runs the project through another backend, and logs what the wait was worth.

    Args:
        clock: Clocks and sleep; None takes those of the system.
        look: How the grid is asked; None asks it as the settings say.
    """

    def __init__(self, *, clock: WaitClock | None = None, look: Look | None = None) -> None:
        super().__init__()
        self._clock = clock or SystemClock()
        self._look = look

    def run(  # noqa: PLR0913, PLR0917 - MLflow's interface
        self,
        project_uri: str,
        entry_point: str,
        params: dict[str, Any],
        version: str | None,
        backend_config: dict[str, Any],
        tracking_uri: str,
        experiment_id: str,
    ) -> SubmittedRun:
        """Run a project when the grid is clean; comes back when it is over.

        Raises:
            ExecutionException: If the configuration is wrong, or the project failed or could not be started.
        """
        ours = {key: value for key, value in backend_config.items() if key not in _MLFLOW_KEYS}
        theirs = {key: value for key, value in backend_config.items() if key in _MLFLOW_KEYS}
        try:
            config = parse(ours)
            _check_backends(config)
            project = MlflowProject(project_uri, entry_point, params or {}, version, theirs, experiment_id)
            return self._submit(config, project, tracking_uri)
        except CarbonError as error:
            raise ExecutionException(str(error)) from error
        except KeyboardInterrupt:
            if _is_in_cli():
                raise SystemExit(_INTERRUPTED) from None
            raise
        except Terminated:
            die_of_sigterm()
            raise

    def _submit(self, config: PlanConfig, project: MlflowProject, tracking_uri: str) -> SubmittedRun:
        where = portable_uri(tracking_uri)
        look = self._look or system_look(grid.Access(cache=grid.fetch.Cache(folder=setup.home() / "grid")))
        key = key_of(project.source, project.entry_point, project.params, f"{where} {project.experiment_id}")
        with seat(setup.home() / "plans", key) as ours:
            world = World(
                project=project,
                look=look,
                clock=self._clock,
                display=Display(sys.stderr),
                seat=ours,
                host=host(),
                pid=os.getpid(),
            )
            return _Finished(submit(config, world, tracking_uri=where))


class _Finished(SubmittedRun):
    """A run that went well: MLflow asks no more of it."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    @property
    def run_id(self) -> str:
        """The run."""
        return self._run_id

    def wait(self) -> bool:
        """It is over."""
        return True

    def get_status(self) -> str:
        """As of any that went well."""
        return str(RunStatus.to_string(RunStatus.FINISHED))

    def cancel(self) -> None:
        """Too late."""


def _check_backends(config: PlanConfig) -> None:
    """Refuse a backend that nobody has, before anything is waited for.

    Raises:
        SettingsError: With what there is.
    """
    there = {*BUILT_IN, *loader.MLFLOW_BACKENDS}
    there |= {entry.name for entry in entry_points(group=loader.ENTRYPOINT_GROUP_NAME)} - {"carbon"}
    for target in config.targets():
        if target.backend not in there:
            raise SettingsError(
                f"backend: expected one of {', '.join(sorted(there))}, got {target.backend!r}; "
                "others come with plugins of MLflow"
            )


def _is_in_cli() -> bool:
    """Whether this is `mlflow run`, which would turn Ctrl-C into exit code 1."""
    import click

    return click.get_current_context(silent=True) is not None

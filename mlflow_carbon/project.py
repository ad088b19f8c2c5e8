"""A project as MLflow makes and starts it, and as we measure it: what the project backend takes of MLflow."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlflow
import psutil
from mlflow.environment_variables import MLFLOW_RUN_ID
from mlflow.projects import utils as projects
from mlflow.projects.backend import loader
from mlflow.utils.git_utils import get_git_commit
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_BACKEND

from mlflow_carbon import settings as setup
from mlflow_carbon.scheduling.wait import SystemClock
from mlflow_carbon.session import publish
from mlflow_carbon.session.meter import OWNER_VARIABLE
from mlflow_carbon.store import MlflowStore
from mlflow_carbon.tracking import begin_block, end_block, resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow.projects.submitted_run import SubmittedRun

    from mlflow_carbon.core.footprint import RunFootprint
    from mlflow_carbon.scheduling.config import Target
    from mlflow_carbon.session.live import Session
    from mlflow_carbon.settings import Overrides

__all__ = ["BUILT_IN", "MlflowProject"]

_logger = logging.getLogger("mlflow_carbon")
_COSTED_S = 10.0

BUILT_IN = ("databricks", "kubernetes")
"""Backends that MLflow starts itself, each with a run of its own."""


class MlflowProject:
    """A project and its runs, as MLflow's own functions make and start them.

    Args:
        uri: Folder, git or zip address, perhaps with `#subfolder`.
        entry_point: Which of its entry points.
        params: Its parameters.
        version: Commit or branch; None for the newest.
        options: MLflow's own part of the backend's configuration.
        experiment_id: Where its runs belong.
    """

    def __init__(
        self,
        uri: str,
        entry_point: str,
        params: Mapping[str, Any],
        version: str | None,
        options: Mapping[str, Any],
        experiment_id: str,
    ) -> None:
        folder, _, subfolder = uri.removeprefix("file://").partition("#")
        self._is_local = Path(folder).exists() and not folder.endswith(".zip")
        self.source = f"{Path(folder).resolve() if self._is_local else folder}#{subfolder}@{version or ''}"
        self.entry_point = entry_point
        self.params = params
        self.experiment_id = experiment_id
        self._uri = uri
        self._version = version
        self._options = options
        self._work_dir: str | None = None

    @property
    def version(self) -> str:
        """The commit that is run, of a project from git; else empty."""
        return self._version or ""

    def pin(self, version: str) -> None:
        """Run this commit; empty: as it was given."""
        self._version = version or self._version

    def create(self) -> str:
        """A new run with the project's parameters, as `mlflow run` makes it; its id."""
        client = mlflow.MlflowClient()
        work_dir = self._fetched()
        run = projects.get_or_create_run(
            None, self._uri, self.experiment_id, work_dir, self._version, self.entry_point, self.params
        )
        client.set_tag(run.info.run_id, MLFLOW_PROJECT_BACKEND, "carbon")
        return str(run.info.run_id)

    def run(self, run_id: str) -> MlflowStore:
        """Access to a run."""
        return MlflowStore(run_id)

    def launch(self, run_id: str, target: Target, settings: Mapping[str, str]) -> _Child:
        """Start it; what was fetched for the plan is what runs here, whatever the branch holds by now."""
        variables = {f"{setup.ENV_PREFIX}{name.upper()}": value for name, value in settings.items()}
        with _environment({**variables, OWNER_VARIABLE: None}):
            if target.backend in BUILT_IN:
                submitted = mlflow.projects.run(
                    self._uri,
                    self.entry_point,
                    version=self._version,
                    parameters=dict(self.params),
                    experiment_id=self.experiment_id,
                    backend=target.backend,
                    backend_config=dict(target.config),
                    synchronous=False,
                )
                return _Child(submitted, self.trainers)
            at_home = target.backend == "local" and not self._is_local
            submitted = loader.load_backend(target.backend).run(
                self._fetched() if at_home else self._uri,
                self.entry_point,
                dict(self.params),
                None if at_home else self._version,
                {
                    **target.config,
                    **self._options,
                    projects.PROJECT_SYNCHRONOUS: True,
                    projects.MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG: run_id,
                },
                mlflow.get_tracking_uri(),
                self.experiment_id,
            )
        return _Child(submitted, self.trainers)

    def trainers(self, run_id: str) -> list[int]:
        """Processes of this user on this machine that were started for a run; none for no run."""
        if not run_id:  # else those whose variable is empty, which are anybody's
            return []
        found = psutil.process_iter(["pid", "environ"])
        return [p.pid for p in found if (p.info["environ"] or {}).get(MLFLOW_RUN_ID.name) == run_id]

    @contextmanager
    def measure(self, run_id: str, target: Target, settings: Mapping[str, str]) -> Iterator[_Around]:
        """Measure this machine around a run of the local backend, without a claim on the run itself."""
        around = _Around()
        session = _began(run_id, settings) if target.backend == "local" else None
        try:
            yield around
        finally:
            if session is not None:
                around.footprint = _ended(session)

    def publish(self, run_id: str, footprint: RunFootprint) -> None:
        """Store figures of a run that has none of its own."""
        store = MlflowStore(run_id)
        segment = publish.Segment(id=publish.PROVISIONAL, footprint=footprint)
        t_ms = int(SystemClock().wall_s() * 1000)
        store.write_points(publish.summary_points(footprint, t_ms=t_ms, detail=False))
        store.write_tags(
            {
                "carbon.schema": publish.SCHEMA,
                "carbon.grid.zone": footprint.zone,
                "carbon.grid.zone_source": footprint.zone_source,
                "carbon.grid.provider": footprint.provider,
                "carbon.pue.source": footprint.pue_source,
                **publish.end_tags(footprint, (), shared=False),
            }
        )
        facts = {
            "findings": ["measured around the whole project by the backend, making its environment included"]
        }
        document = publish.footprint_document(run_id, [segment], facts)
        store.write_file("footprint.json", publish.json_bytes(document))

    def _fetched(self) -> str:
        """The folder with the project; of one that was downloaded, the commit is kept from then on."""
        if self._work_dir is None or not Path(self._work_dir).is_dir():
            self._work_dir = str(
                projects.fetch_and_validate_project(
                    self._uri, self._version, self.entry_point, dict(self.params)
                )
            )
            if not self._is_local:
                self._version = get_git_commit(self._work_dir) or self._version
        return self._work_dir


class _Around:
    """The machine's figures of a block, once it is over."""

    footprint: RunFootprint | None = None


class _Child:
    """A training that was started, with all its processes."""

    def __init__(self, submitted: SubmittedRun, trainers: Callable[[str], list[int]]) -> None:
        self._submitted = submitted
        self._trainers = trainers

    @property
    def run_id(self) -> str:
        """Its run."""
        return str(self._submitted.run_id or "")

    def wait(self) -> bool:
        """Wait until it is over; whether it went well."""
        return bool(self._submitted.wait())

    def cancel(self) -> None:
        """End it, and on this machine also what it has started: a shell that dies leaves its children."""
        self._submitted.cancel()
        for pid in self._trainers(self.run_id):
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM)


def _began(run_id: str, given: Mapping[str, str]) -> Session | None:
    """A block around a run, if this machine can be measured."""
    if setup.is_disabled():
        return None
    try:
        return begin_block(resolved(cast("Overrides", dict(given))), run_id)
    except Exception:
        _logger.warning("the run is not measured from outside", exc_info=True)
        return None


def _ended(session: Session) -> RunFootprint | None:
    """The figures of a block, if there are any."""
    try:
        return end_block(session, "FINISHED", costed_s=_COSTED_S)
    except Exception:
        _logger.warning("the figures from outside are lost", exc_info=True)
        return None


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Variables for what is started meanwhile; None takes one away."""
    before = {name: os.environ.get(name) for name in changes}
    _apply(changes)
    try:
        yield
    finally:
        _apply(before)


def _apply(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

"""Measured runs of a tracking server, none counted twice: many at once, where `store` knows one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlflow_carbon.cloud import MeasuredRun, not_nested
from mlflow_carbon.errors import StoreError
from mlflow_carbon.store import first_line, portable_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Found", "of_experiment", "of_run"]

_KIND = "run"  # roll-ups count no other (decision 19)
_ENERGY, _EMISSIONS = "carbon/energy_kwh", "carbon/emissions_gco2e"
_PARENT = "mlflow.parentRunId"
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Runs with our figures.

    Attributes:
        runs: Each once, and none inside another.
        notes: What was left out, and what to know of the rest.
    """

    runs: tuple[MeasuredRun, ...]
    notes: tuple[str, ...] = ()


def of_experiment(name: str) -> Found:
    """The measured runs of an experiment; of nested ones the outermost that was measured.

    Raises:
        StoreError: If there is no such experiment, or the server cannot be read.
    """
    runs = _all_of(name)
    measured = {run.info.run_id: run for run in runs if _is_measured(run)}
    parents = {run.info.run_id: run.data.tags[_PARENT] for run in runs if run.data.tags.get(_PARENT)}
    outer = not_nested(parents, measured.keys())
    inner = len(measured) - len(outer)
    notes = [f"{inner} nested run(s) left out: the run around them holds their energy"] if inner else []
    return _found([run for run_id, run in measured.items() if run_id in outer], notes)


def of_run(run_id: str) -> Found:
    """One measured run, nested or not.

    Raises:
        StoreError: If there is no such run, it was not measured, or the server cannot be read.
    """
    with _readable(f"run {run_id}"):
        run = _client().get_run(run_id)
    if not _is_measured(run):
        raise StoreError(f"run {run_id}: expected carbon.kind=run and {_ENERGY}, got a run without them")
    return _found([run], [])


def _all_of(name: str) -> list[Run]:
    with _readable(f"experiment {name!r}"):
        client = _client()
        experiment = client.get_experiment_by_name(name)
        runs = [] if experiment is None else list(_pages(client, experiment.experiment_id))
    if experiment is None:
        raise StoreError(f"experiment {name!r}: there is none at {_where()}; set MLFLOW_TRACKING_URI")
    return runs


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Whatever MLflow and its stores raise is that it cannot be read there."""
    try:
        yield
    except Exception as error:
        raise StoreError(f"{what}: cannot be read at {_where()}: {first_line(error)}") from error


def _pages(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    token = ""
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token or None)
        yield from page
        token = page.token or ""
        if not token:
            return


def _found(runs: Sequence[Run], notes: list[str]) -> Found:
    measured = tuple(_measured(run) for run in runs)
    shared = sum(run.is_shared for run in measured)
    crossing = sum(run.end_month not in {"", run.month} for run in measured)
    if shared:
        notes.append(f"{shared} run(s) shared their machine with others: their sum counts it more than once")
    if crossing:
        notes.append(f"{crossing} run(s) went on into another month: all of them counts in that of its start")
    return Found(runs=measured, notes=tuple(notes))


def _is_measured(run: Run) -> bool:
    return run.data.tags.get("carbon.kind") == _KIND and _ENERGY in run.data.metrics


def _measured(run: Run) -> MeasuredRun:
    return MeasuredRun(
        id=run.info.run_id,
        month=_month(run.info.start_time),
        end_month=_month(run.info.end_time) if run.info.end_time else "",
        zone=run.data.tags.get("carbon.grid.zone", ""),
        energy_kwh=run.data.metrics[_ENERGY],
        emissions_gco2e=run.data.metrics.get(_EMISSIONS),
        is_shared=run.data.tags.get("carbon.shared") == "true",
    )


def _month(t_ms: int) -> str:
    return f"{datetime.fromtimestamp(t_ms / 1000, UTC):%Y-%m}"


def _client() -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient()


def _where() -> str:
    import mlflow

    return portable_uri(mlflow.get_tracking_uri())

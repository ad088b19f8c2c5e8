"""What a training tells MLflow and its reader.

Trouble with the tracking server never stops a training: after the first failed call nothing more is sent,
the epochs go on, the checkpoint and mlflow-carbon's journal are kept, and the end says how to replay it.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import mlflow
import requests
import torch
from mlflow.exceptions import MlflowException

import mlflow_carbon
from projects.mnist.config import TrackingError, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_carbon import RunFootprint
    from projects.mnist.config import Config

__all__ = ["Log", "opened", "require_server"]

EXPERIMENT = "mnist"
_KILOWATT_HOUR_J = 3.6e6
_REACH_TIMEOUT_S = 3.0
_FLUSH_TIMEOUT_S = 10.0
_TROUBLE = (MlflowException, requests.RequestException, OSError)
# MLflow's own seven retries hold each call for four minutes; three hold it for thirteen seconds.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


@contextmanager
def opened(config: Config, *, params: Mapping[str, str], dataset: str) -> Iterator[Log]:
    """A measured MLflow run, ended as FINISHED, FAILED or KILLED whatever happens inside.

    Under `mlflow run` its run is adopted; else one is made, by default in the experiment `mnist`.

    Raises:
        TrackingError: If the tracking server cannot be reached or refuses.
        SettingsError: If the zone is unknown.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    require_server(mlflow.get_tracking_uri())
    if config.zone is None:
        mlflow_carbon.autolog()
    else:
        mlflow_carbon.autolog(zone=config.zone)
    try:
        if not {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"} & os.environ.keys():
            mlflow.set_experiment(EXPERIMENT)
        run = mlflow.start_run()
    except _TROUBLE as error:
        raise TrackingError(_unreachable(mlflow.get_tracking_uri(), _short(error))) from error
    log = Log(run)
    try:
        log.tag("carbon.dataset", dataset)
        log.params({**params, "peak_memory_of": "cuda-tensors" if _on_cuda() else "process"})
        yield log
    except BaseException as error:
        log.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    log.end("FINISHED")


class Log:
    """Writes one run to MLflow, and to standard output one line an epoch and a summary."""

    def __init__(self, run: mlflow.entities.Run) -> None:
        self.run_id, self.experiment_id = run.info.run_id, run.info.experiment_id
        self.trouble = ""
        self._known = frozenset(run.data.params)
        self._footprint = mlflow_carbon.snapshot()
        self._lap_started_s = time.perf_counter()
        self._cpu_started_s = time.process_time()
        self._last: dict[str, float] = {}
        self._stored = True

    def tag(self, name: str, value: str) -> None:
        """Set one tag."""
        self._tell(mlflow.set_tag, name, value)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set several in one request."""
        if values:
            self._tell(mlflow.set_tags, dict(values))

    def params(self, values: Mapping[str, str]) -> None:
        """Log parameters, but for those that `mlflow run` has logged: not even their spelling can change."""
        self._tell(mlflow.log_params, {k: v for k, v in values.items() if k not in self._known})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics in one request."""
        if values:
            self._tell(mlflow.log_metrics, dict(values), step=step)

    def epoch(self, epoch: int, values: Mapping[str, float], *, images: int) -> None:
        """Log an epoch in one request, with its energy, emissions, images per joule and peak memory so far.

        Args:
            epoch: 1 for the first one; the step of the metrics.
            values: The trainer's own metrics, with `train/loss` and `test/accuracy` among them.
            images: How many images were trained on. The energy is that since the last epoch's line, the
                evaluation included.
        """
        mlflow_carbon.count("image", images)
        started_s, self._lap_started_s = self._lap_started_s, time.perf_counter()
        now = mlflow_carbon.snapshot()
        energy_kwh = _difference(now, self._footprint, "energy_kwh")
        emissions_gco2e = _difference(now, self._footprint, "emissions_gco2e")
        self._footprint = now or self._footprint
        extra = {
            "train/energy_kwh": energy_kwh,
            "train/emissions_gco2e": emissions_gco2e,
            "train/images_per_j": images / (energy_kwh * _KILOWATT_HOUR_J) if energy_kwh else None,
            "train/peak_memory_mib": _peak_memory_mib(),
        }
        self._last = dict(values) | {key: value for key, value in extra.items() if value is not None}
        self.metrics(self._last, step=epoch)
        mlflow_carbon.log_step(epoch)
        print(
            f"epoch {epoch}: loss {values['train/loss']:.4f}, test accuracy {values['test/accuracy']:.2%}, "
            f"{self._lap_started_s - started_s:.1f} s"
            + (f", {energy_kwh:#.3g} kWh" if energy_kwh is not None else "")
            + (f", {emissions_gco2e:#.3g} gCO2e" if emissions_gco2e is not None else "")
            + (f" ({now.basis})" if now else ", energy not measured"),
            flush=True,
        )

    def stopped(self, reason: str) -> None:
        """Say that the training ends early, and why."""
        self.tag("carbon.stop_reason", reason)
        print(f"stopped    {reason}", flush=True)

    def model(self, model: torch.nn.Module, *, dtype: str, shape: tuple[int, ...]) -> None:
        """Log the final model, which takes images of a dtype and shape.

        As a pickle: MLflow's graph format traces the model for three CPU seconds, a tenth of a training.
        """
        import mlflow.pytorch
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        images = Schema([TensorSpec(np.dtype(dtype), (-1, *shape))])
        scores = Schema([TensorSpec(np.dtype("float32"), (-1, 10))])
        logging.getLogger("mlflow.pytorch").setLevel(logging.ERROR)  # else a paragraph about pickles
        self._tell(
            mlflow.pytorch.log_model,
            model.cpu(),
            name="model",
            signature=ModelSignature(inputs=images, outputs=scores),
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],  # inferring takes long
            serialization_format="pickle",
        )

    def end(self, status: str) -> None:
        """End the run with a status, whatever happened before: this is also what ends the measurement."""
        self._footprint = mlflow_carbon.snapshot() or self._footprint
        try:
            mlflow.end_run(status)
        except _TROUBLE as error:
            self.trouble = self.trouble or _short(error)
        self._stored = mlflow_carbon.flush(_FLUSH_TIMEOUT_S)

    def finish(self) -> int:
        """Print the summary. Returns 1 if the tracking server does not have the whole run, else 0."""
        print("\n".join(_summary(self._footprint, self._last, run_id=self.run_id)))
        cpu_s = time.process_time() - self._cpu_started_s
        print(f"CPU time   {cpu_s:.1f} s of this process since the run began")
        if self._footprint is not None and self._footprint.verdict == "warn":
            print("verdict    warn: the findings are in the run's note")
        if self.trouble or not self._stored:
            reason = self.trouble or f"not stored within {_FLUSH_TIMEOUT_S:g} s"
            say(f"the tracking server lacks a part of this run ({reason}); send it: mlflow-carbon recover")
        for line in _where_to_look(mlflow.get_tracking_uri(), self.experiment_id):
            print(line)
        return 1 if self.trouble else 0

    def _tell(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        if self.trouble:
            return
        try:
            call(*args, **kwargs)
        except _TROUBLE as error:
            self.trouble = _short(error)
            say(f"tracking: {self.trouble}; training goes on and its checkpoint is kept")


def require_server(uri: str) -> None:
    """One short request, for MLflow's own retries hold a first call for minutes.

    Raises:
        TrackingError: If a server does not answer; stores without a server always pass.
    """
    if urlsplit(uri).scheme not in {"http", "https"}:
        return
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=_REACH_TIMEOUT_S)
    except requests.exceptions.SSLError:
        return  # it answers; MLflow has its own settings for certificates
    except requests.RequestException as error:
        raise TrackingError(
            _unreachable(uri, f"none within {_REACH_TIMEOUT_S:g} s ({type(error).__name__})")
        ) from error


def _unreachable(uri: str, got: str) -> str:
    return (
        f"tracking server {_without_user(uri)}: expected an answer, got {got}; "
        "start it with `mlflow server`, or unset MLFLOW_TRACKING_URI to write into ./mlflow.db"
    )


def _difference(now: RunFootprint | None, before: RunFootprint | None, name: str) -> float | None:
    """What was added since the last look; nothing before the first look counts as zero."""
    value = getattr(now, name, None)
    return None if value is None else float(value - (getattr(before, name, None) or 0.0))


def _on_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call] # torch leaves it untyped


def _peak_memory_mib() -> float:
    """Peak memory in MiB so far: of tensors on the GPU if CUDA is in use, else of the whole process."""
    if _on_cuda():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _summary(footprint: RunFootprint | None, last: Mapping[str, float], *, run_id: str) -> Iterator[str]:
    """The lines that a reader wants at the end."""
    yield ""
    yield f"run        {run_id}"
    if "test/accuracy" in last:
        yield f"accuracy   {last['test/accuracy']:.2%} of the test images"
    if footprint is None:
        yield "energy     not measured; see `mlflow-carbon doctor`"
        return
    label = ", ".join(word for word in (footprint.basis, footprint.quality) if word)
    yield f"energy     {_with_range(footprint, 'energy', 'kwh')} kWh ({label})"
    grid = ", ".join(w for w in (footprint.intensity_kind, footprint.provider) if w)
    yield f"emissions  {_with_range(footprint, 'emissions', 'gco2e')} gCO2e (grid: {grid or 'unknown'})"
    yield f"zone       {footprint.zone or 'unknown'} (from {footprint.zone_source or 'nothing'})"


def _with_range(footprint: RunFootprint, name: str, unit: str) -> str:
    middle, low, high = (getattr(footprint, f"{name}{end}_{unit}") for end in ("", "_low", "_high"))
    if middle is None:
        return "unknown"
    return f"{middle:#.3g}" + (
        f" [{low:#.3g} to {high:#.3g}]" if low is not None and high is not None else ""
    )


def _where_to_look(uri: str, experiment_id: str) -> Iterator[str]:
    base = _without_user(uri).rstrip("/")
    if urlsplit(uri).scheme not in {"http", "https"}:
        option = "" if uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}" else f" --backend-store-uri {base}"
        yield f"look       mlflow ui{option}"
        base = "http://127.0.0.1:5000"
    view = "compareRunsMode=CHART&workflowType=machine_learning"
    yield f"charts     {base}/#/experiments/{experiment_id}/runs?{view}"


def _without_user(text: str) -> str:
    """The text with user names and passwords of addresses left out."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def _short(error: Exception) -> str:
    return _without_user(" ".join(str(error).split()))[:200] or type(error).__name__

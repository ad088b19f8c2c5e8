"""The MLflow sink: the only room that knows `MlflowClient`.

Every call is synchronous and may block for as long as MLflow's own retries do, so it is made from
the worker thread. Whatever MLflow raises becomes a `StoreError`, once, here; a `RefusedError` where it is no
use to try again.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.report import merge_note
from mlflow_carbon.errors import RefusedError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["MlflowStore", "Point", "first_line", "portable_uri"]

_BATCH = 900  # MLflow takes 1000 metrics and 100 tags a call
_TAG_BATCH = 90
_TAG_CHARS = 500
# Something is wrong with the request itself. A login may be renewed, and all else is the server's.
_REFUSALS = frozenset(
    {
        "ALREADY_EXISTS",
        "BAD_REQUEST",
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
    }
)
_NOTE_TAG = "mlflow.note.content"
_WEB_USER = re.compile(r"(?<=://)[^\s/@]*@")
# As SQLAlchemy reads it: a password may hold slashes. Not so in web addresses, whose paths may hold an @.
_DATABASE_USER = re.compile(r"(?<=://)(?<!http://)(?<!https://)[^\s:/@]*(:[^\s@]*)?@")
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&;][^\s=&;]*(?:pass|pwd|token|secret|key|user)[^\s=&;]*=)[^\s&;'\")]*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One metric value: key, value, step and UTC time in milliseconds."""

    key: str
    value: float
    step: int
    t_ms: int


def portable_uri(uri: str) -> str:
    """A tracking URI that holds from any folder and holds no user name or password."""
    scheme, sep, rest = uri.partition("://")
    if not sep:
        is_name = uri == "uc" or uri.startswith("databricks")
        return uri if is_name else str(Path(uri.removeprefix("file:")).resolve())
    if scheme.startswith("sqlite") and rest.startswith("/") and not rest.startswith("//"):
        return f"{scheme}:///{Path(rest[1:]).resolve()}"
    return _without_secrets(uri)


def _without_secrets(text: str) -> str:
    """Text without the user info of its addresses and the values of parameters such as `password`."""
    text = _WEB_USER.sub("", _DATABASE_USER.sub("", text))
    return _SECRET_PARAMETER.sub(r"\1", text)


class MlflowStore:
    """Reads and writes one MLflow run.

    Args:
        run_id: The run.
        tracking_uri: Where it lives; None: MLflow's current tracking URI, taken now.
    """

    def __init__(self, run_id: str, *, tracking_uri: str | None = None) -> None:
        import mlflow

        self.run_id = run_id
        self.tracking_uri: str = tracking_uri or mlflow.get_tracking_uri()
        self._client: MlflowClient | None = None

    def write_points(self, points: Iterable[Point]) -> None:
        """Log metric values, in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        metrics = [Metric(p.key, p.value, p.t_ms, p.step) for p in points]
        with self._translated("log metrics"):
            for start in range(0, len(metrics), _BATCH):
                self._mlflow().log_batch(self.run_id, metrics=metrics[start : start + _BATCH])

    def write_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; values are cut to 500 characters."""
        from mlflow.entities import RunTag

        items = [RunTag(key, value[:_TAG_CHARS]) for key, value in tags.items()]
        with self._translated("set tags"):
            for start in range(0, len(items), _TAG_BATCH):
                self._mlflow().log_batch(self.run_id, tags=items[start : start + _TAG_BATCH])

    def write_file(self, name: str, content: bytes | Iterable[bytes]) -> None:
        """Store an artifact `carbon/<name>`, given whole or piece by piece; `name` may have folders."""
        with self._translated(f"store carbon/{name}"), tempfile.TemporaryDirectory() as folder:
            place = PurePosixPath("carbon", name)
            path = Path(folder) / place.name
            with path.open("wb") as file:
                file.writelines((content,) if isinstance(content, bytes) else content)
            self._mlflow().log_artifact(self.run_id, str(path), str(place.parent))

    def write_note(self, block: str) -> None:
        """Put our Markdown block into the run's description, keeping the user's own text."""
        with self._translated("set the run note"):
            run = self._mlflow().get_run(self.run_id)
            merged = merge_note(run.data.tags.get(_NOTE_TAG, ""), block)
            self._mlflow().set_tag(self.run_id, _NOTE_TAG, merged)

    def read_metrics(self) -> dict[str, float]:
        """Latest values of the run's `carbon/` metrics."""
        with self._translated("read metrics"):
            metrics = self._mlflow().get_run(self.run_id).data.metrics
        return {key: value for key, value in metrics.items() if key.startswith("carbon/")}

    def read_last_step(self, key: str) -> int:
        """The highest step logged for a metric; -1 if there is none."""
        with self._translated("read a metric's history"):
            history = self._mlflow().get_metric_history(self.run_id, key)
        return max((point.step for point in history), default=-1)

    def read_file(self, name: str) -> bytes | None:
        """An artifact `carbon/<name>`; None if there is none."""
        with self._translated(f"read carbon/{name}"):
            place = PurePosixPath(name)
            if place.name not in self.list_files(str(place.parent)):
                return None
            with tempfile.TemporaryDirectory() as folder:
                path = self._mlflow().download_artifacts(self.run_id, f"carbon/{name}", folder)
                return Path(path).read_bytes()

    def list_files(self, folder: str = "") -> dict[str, int]:
        """Names of the artifacts in `carbon/<folder>` with their sizes in bytes, 0 where that is unknown."""
        place = str(PurePosixPath("carbon", folder))
        with self._translated("list artifacts"):
            found = self._mlflow().list_artifacts(self.run_id, place)
        return {PurePosixPath(e.path).name: e.file_size or 0 for e in found if not e.is_dir}

    def end(self, status: str, t_ms: int | None = None) -> None:
        """End the run with a status, where it is still running; `t_ms` is when it ended, None for now."""
        with self._translated("end the run"):
            if self._run().info.status in ("RUNNING", "SCHEDULED"):
                self._mlflow().set_terminated(self.run_id, status, t_ms)

    def set_status(self, status: str) -> None:
        """Say that the run is `SCHEDULED` or `RUNNING`."""
        with self._translated(f"set status {status}"):
            self._mlflow().update_run(self.run_id, status=status)

    def standing(self) -> tuple[str, float | None] | None:
        """Status of the run and its UTC end in seconds; None if there is no such run, or it was deleted."""
        try:
            with self._translated("read the run"):
                info = self._run().info
        except RefusedError:
            return None
        if info.lifecycle_stage == "deleted":
            return None
        return info.status, info.end_time / 1000 if info.end_time else None

    def exists(self) -> bool:
        """Whether the run can be read."""
        try:
            with self._translated("read the run"):
                self._run()
        except StoreError:
            return False
        return True

    def _run(self) -> Run:
        return self._mlflow().get_run(self.run_id)

    def _mlflow(self) -> MlflowClient:
        if self._client is None:
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self.tracking_uri)
        return self._client

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            kind = RefusedError if getattr(error, "error_code", None) in _REFUSALS else StoreError
            raise kind(
                f"could not {what} of run {self.run_id} at {portable_uri(self.tracking_uri)}: "
                f"{first_line(error)}"
            ) from error


def first_line(error: Any) -> str:
    """Type and first line of an error, without what it may tell of passwords."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {_without_secrets(text[0])[:300]}" if text else type(error).__name__

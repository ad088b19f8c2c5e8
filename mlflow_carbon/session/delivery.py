"""What is to be stored, as values, and the protocol of whoever stores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_carbon.store import Point

__all__ = ["Delivery", "End", "File", "Note", "Points", "Sink", "Tags", "deliver"]


class Sink(Protocol):
    """Where figures go. Calls may block and raise `StoreError`."""

    def write_points(self, points: Iterable[Point]) -> None:
        """Store metric values."""

    def write_tags(self, tags: Mapping[str, str]) -> None:
        """Store tags."""

    def write_file(self, name: str, content: bytes | Iterable[bytes]) -> None:
        """Store `carbon/<name>`, given whole or piece by piece."""

    def write_note(self, block: str) -> None:
        """Show a Markdown block in the run's description."""

    def read_metrics(self) -> dict[str, float]:
        """Latest values of the `carbon/` metrics."""

    def read_last_step(self, key: str) -> int:
        """Highest step of a metric, -1 for none."""

    def read_file(self, name: str) -> bytes | None:
        """The content of `carbon/<name>`; None if there is none."""

    def list_files(self, folder: str = "") -> dict[str, int]:
        """Names and sizes of the files in `carbon/<folder>`."""

    def end(self, status: str, t_ms: int | None = None) -> None:
        """End the run, if it still runs, as of a UTC time in milliseconds (None: now)."""


@dataclass(frozen=True, slots=True)
class Points:
    """Metric values."""

    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Tags:
    """Run tags."""

    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class File:
    """An artifact under `carbon/`; one that may be large is made piece by piece when it is stored."""

    name: str
    content: bytes | Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Note:
    """The block in the run's description."""

    block: str


@dataclass(frozen=True, slots=True)
class End:
    """The status of a run that nobody else will end."""

    status: str
    t_ms: int | None = None


Delivery = Points | Tags | File | Note | End


def deliver(sink: Sink, item: Delivery) -> None:
    """Store one thing.

    Raises:
        StoreError: If the sink could not.
    """
    match item:
        case Points(points):
            sink.write_points(points)
        case Tags(tags):
            sink.write_tags(tags)
        case File(name, content):
            sink.write_file(name, content if isinstance(content, bytes) else content())
        case Note(block):
            sink.write_note(block)
        case End(status, t_ms):
            sink.end(status, t_ms)

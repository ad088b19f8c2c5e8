"""The run as one of several machines sees it: its own figures in places of their own, the sum after them.

So a session, its outbox and `recover` store on one of several machines as they do on the only one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.nodes import has_keys
from mlflow_carbon.session import merging, publish

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_carbon.session.delivery import Sink
    from mlflow_carbon.session.machines import Node
    from mlflow_carbon.store import Point

__all__ = ["NodeSink", "node_view"]

_SERIES = ("carbon/time/", "carbon/step/")
_SUMMARY = "footprint.json"


def node_view(sink: Sink, run_id: str, node: Node | None, *, detail: bool) -> Sink:
    """Where a machine stores: the sink itself for the only one."""
    return NodeSink(sink, run_id, node, detail=detail) if node is not None else sink


class NodeSink:
    """Writes what one machine has measured, then adds up what all have.

    The first machine stands for the run: its series, tags and end are the run's.

    Args:
        sink: The run.
        run_id: Its id.
        node: Which machine this is.
        detail: Whether every number becomes a metric.
    """

    def __init__(self, sink: Sink, run_id: str, node: Node, *, detail: bool) -> None:
        self._sink = sink
        self._run_id = run_id
        self._node = node
        self._detail = detail
        self._tags: dict[str, str] = {}
        self._sum = merging.NOTHING

    def write_points(self, points: Iterable[Point]) -> None:
        """The series of the first machine, and the summary under a key of this machine."""
        seen = [own for point in points if (own := self._own(point)) is not None]
        if seen:
            self._sink.write_points(seen)

    def write_tags(self, tags: Mapping[str, str]) -> None:
        """Those of the first machine; what went wrong on this one goes into its document."""
        self._tags |= tags
        if self._node.is_first:
            self._sink.write_tags(tags)

    def write_file(self, name: str, content: bytes | Iterable[bytes]) -> None:
        """The summary as the document of this machine, other files beside it."""
        if name == _SUMMARY:
            whole = content if isinstance(content, bytes) else b"".join(content)
            document = json.loads(whole) | {
                **asdict(self._node),
                "detail": self._detail,
                "error": self._tags.get("carbon.error", ""),
                "shared": self._tags.get("carbon.shared", "") == "true",
            }
            content = publish.json_bytes(document)
        self._sink.write_file(self._place(name), content)

    def write_note(self, block: str) -> None:  # noqa: ARG002 - the note of the run is about all machines
        """What comes last of a span: now all of this machine is stored, and the sum follows."""
        self.add_up()

    def read_metrics(self) -> dict[str, float]:
        """The summary of this machine under the names it has on the only one."""
        own = f"carbon/node_{self._node.name}/"
        found = self._sink.read_metrics().items()
        return {f"carbon/{key.removeprefix(own)}": value for key, value in found if key.startswith(own)}

    def read_last_step(self, key: str) -> int:
        """Highest step of a series of the run."""
        return self._sink.read_last_step(key)

    def read_file(self, name: str) -> bytes | None:
        """A file of this machine."""
        return self._sink.read_file(self._place(name))

    def list_files(self, folder: str = "") -> dict[str, int]:
        """Names and sizes of the files of the run in `carbon/<folder>`."""
        return self._sink.list_files(folder)

    def end(self, status: str, t_ms: int | None = None) -> None:
        """The run ends with its first machine; the others may die before it."""
        if self._node.is_first:
            self._sink.end(status, t_ms)

    def add_up(self) -> bool:
        """Store the sum of the machines that are there, if it is not stored yet; whether all are in.

        Raises:
            StoreError: If the sink could not.
        """
        self._sum = merging.merge(self._sink, self._run_id, known=self._sum)
        return self._sum.is_complete

    def _own(self, point: Point) -> Point | None:
        if point.key.startswith(_SERIES):
            return point if self._node.is_first else None
        name = point.key.removeprefix("carbon/")
        if name in merging.PER_NODE and has_keys(self._node.name, self._node.number):
            return replace(point, key=merging.key(self._node.name, name))
        return None

    def _place(self, name: str) -> str:
        if name == _SUMMARY:
            return f"{merging.FOLDER}/{self._node.name}.json"
        return f"{merging.FOLDER}/{self._node.name}/{name}"

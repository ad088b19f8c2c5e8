"""The earlier segments of a run that is resumed, as a store and a journal tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon.session.publish import PROVISIONAL, Segment, parse_segments, segment_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_carbon.session.delivery import Sink

__all__ = ["Past", "read_past"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What was stored before a segment logged anything of its own.

    Attributes:
        segments: Earlier ones.
        offset_s: Where the time axis goes on.
    """

    segments: tuple[Segment, ...] = ()
    offset_s: int = 0

    @property
    def provisional(self) -> Segment | None:
        """What earlier segments had only logged: their journals are lost, or on another machine."""
        return next((s for s in self.segments if s.id == PROVISIONAL), None)

    def record(self) -> dict[str, Any]:
        """For the journal: what its own figures will hide from whoever recovers it."""
        return {
            "s": self.offset_s,
            "provisional": self.provisional.as_dict() if self.provisional is not None else None,
        }

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Past:
        """The past of a journal's record, as far as it is there."""
        entry = record.get("provisional")
        return Past(segments=(segment_from(entry),) if entry else (), offset_s=record["s"])

    def with_stored(self, stored: list[Segment], segment_id: str) -> list[Segment]:
        """All other segments, for one that is recovered.

        Args:
            stored: What the store has now. Something provisional may be what the segment itself has logged,
                unless one that is certain came before it.
            segment_id: The segment that is recovered.
        """
        certain = [s for s in stored if s.id not in (PROVISIONAL, segment_id)]
        if any(s.is_before(segment_id) for s in certain):
            return stored
        return [*([self.provisional] if self.provisional is not None else []), *certain]


def read_past(sink: Sink) -> Past:
    """What a store has of a run now.

    Raises:
        StoreError: If it does not answer.
    """
    segments = parse_segments(sink.read_file("footprint.json"), sink.read_metrics())
    offset_s = 1 + sink.read_last_step("carbon/time/energy_kwh") if segments else 0
    return Past(segments=tuple(segments), offset_s=offset_s)

"""What was fetched before, on disk: slots by source, place and UTC day in small JSON files.

A file that cannot be read counts as absent, and a folder that cannot be written is left alone: a cache must
not be a way to fail.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.core.settle import newest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Cache", "replace_file"]

_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Slots on disk, one JSON file per source, place and UTC day; written whole and renamed.

    Attributes:
        folder: Where the files are; None keeps nothing.
    """

    folder: Path | None

    def load(self, source: str, place: str, start_s: float, end_s: float) -> dict[int, IntensitySlot]:
        """Slots that begin in [start, end), by their start; each knows when it was fetched."""
        days = range(int(start_s // _DAY_S), int(end_s // _DAY_S) + 1)
        found = (slot for day in days for slot in self._read(self._file(source, place, day)))
        return {s.start_s: s for s in found if start_s <= s.start_s < end_s}

    def save(self, source: str, place: str, slots: Iterable[IntensitySlot]) -> None:
        """Keep slots; what the same days hold already stays, unless it is older or less certain."""
        if self.folder is None:
            return
        by_day: dict[int, list[IntensitySlot]] = {}
        for slot in slots:
            by_day.setdefault(slot.start_s // _DAY_S, []).append(slot)
        for day, fresh in by_day.items():
            file = self._file(source, place, day)
            kept = newest(self._read(file), fresh)
            if file is not None:
                replace_file(file, [asdict(kept[t]) for t in sorted(kept)])

    def _file(self, source: str, place: str, day: int) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / re.sub(r"[^\w.-]", "-", source) / re.sub(r"[^\w.-]", "-", place) / f"{day}.json"

    @staticmethod
    def _read(file: Path | None) -> Iterator[IntensitySlot]:
        if file is None:
            return
        try:
            slots = [IntensitySlot(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
            usable = all(map(_is_usable, slots))
        except (OSError, ValueError, TypeError, RecursionError):
            return
        if usable:
            yield from slots


def _is_usable(slot: IntensitySlot) -> bool:
    """Whether the fields that nobody checks are what they should be; JSON may hold anything."""
    return (
        isinstance(slot.start_s, int)
        and isinstance(slot.end_s, int)
        and isinstance(slot.kind, str)
        and isinstance(slot.source, str)
        and isinstance(slot.fetched_s, int | float)
        and isinstance(slot.issued_s, int | float | None)
    )


def replace_file(file: Path, content: Any) -> None:
    """Write JSON whole beside a file and rename it; a folder that cannot be written is no error."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as part:
                json.dump(content, part)
            Path(name).replace(file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError:
        return

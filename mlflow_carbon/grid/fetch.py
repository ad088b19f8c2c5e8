"""The network of the grid providers, and the cache of what it said.

`get` is one bounded GET; `Cache` keeps slots by source, zone and UTC day in small JSON files. Neither
knows a provider. Everything has an end: each wait, the whole call and the size of an answer.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import uniform
from typing import TYPE_CHECKING, Any

from mlflow_carbon._version import __version__
from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import requests

__all__ = ["BUDGET_S", "Cache", "CachedSlot", "get"]

BUDGET_S = 15.0
"""Longest that one call may take, retries and waits included.

A name lookup and one read of at most 10 s cannot be cut short.
"""

_TIMEOUT_S = (3.0, 10.0)  # connect, read
_PAUSES_S = (0.5, 1.0, 2.0)
_RETRIED = frozenset({429, 500, 502, 503, 504})
_MAX_BYTES = 4_000_000
_DAY_S = 86_400
_CHUNK = 64  # the deadline is looked at between chunks, so small ones notice a server that drips
_OK = 200


def get(
    url: str,
    *,
    budget_s: float = BUDGET_S,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bytes:
    """Body of a successful GET, within the budget: up to three retries with growing, jittered pauses.

    The retries are ours and not urllib3's, because that one sleeps through any `Retry-After`, however
    long; here a wait that does not fit into the budget is a failure at once.

    Raises:
        GridError: If there is no good answer in time; the message names the address and the reason.
    """
    import requests

    deadline = monotonic() + budget_s
    with requests.Session() as session:
        session.headers["User-Agent"] = f"mlflow-carbon/{__version__}"
        for pause in (*_PAUSES_S, None):
            wait: float | None = None if pause is None else pause * uniform(0.75, 1.25)  # noqa: S311 - jitter
            try:
                left = max(0.01, deadline - monotonic())
                timeout = (min(_TIMEOUT_S[0], left), min(_TIMEOUT_S[1], left))
                with session.get(url, timeout=timeout, stream=True) as answer:
                    if answer.status_code == _OK:
                        return _body(answer, lambda: monotonic() < deadline)
                    reason = f"HTTP {answer.status_code}"
                    wait = _wait(answer, wait)
            except requests.RequestException as error:
                reason = type(error).__name__
            if wait is None or monotonic() + wait >= deadline:
                break
            sleep(wait)
    raise GridError(f"{url}: expected an answer within {budget_s:g} s, got {reason}")


def _wait(answer: requests.Response, pause: float | None) -> float | None:
    """How long to wait before the next try; None if another try is of no use."""
    if answer.status_code not in _RETRIED or pause is None:
        return None
    asked = answer.headers.get("Retry-After", "")
    if not asked:
        return pause
    # The other form of this header is a date; waiting for one is never worth it here.
    return max(pause, float(asked)) if asked.isdecimal() else None


def _body(answer: requests.Response, in_time: Callable[[], bool]) -> bytes:
    body = bytearray()
    for chunk in answer.iter_content(_CHUNK):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise GridError(f"{answer.url}: expected at most {_MAX_BYTES} bytes, got more")
        if not in_time():
            raise GridError(f"{answer.url}: the answer came too slowly")
    return bytes(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSlot:
    """A slot and when it was fetched, seconds since the epoch."""

    slot: IntensitySlot
    fetched_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Slots on disk, one JSON file per source, zone and UTC day; written whole and renamed.

    A file that cannot be read counts as absent, and a folder that cannot be written is left alone:
    a cache must not be a way to fail.

    Attributes:
        folder: Where the files are; None keeps nothing.
    """

    folder: Path | None

    def load(self, source: str, zone: str, start_s: float, end_s: float) -> dict[int, CachedSlot]:
        """Cached slots that begin in [start, end), by their start, newest write last."""
        days = range(int(start_s // _DAY_S), int(end_s // _DAY_S) + 1)
        found = (entry for day in days for entry in self._read(self._file(source, zone, day)))
        return {e.slot.start_s: e for e in found if start_s <= e.slot.start_s < end_s}

    def save(self, source: str, zone: str, slots: Iterable[IntensitySlot], now_s: float) -> None:
        """Keep slots as fetched now; what the same days hold already stays."""
        if self.folder is None:
            return
        by_day: dict[int, list[IntensitySlot]] = {}
        for slot in slots:
            by_day.setdefault(slot.start_s // _DAY_S, []).append(slot)
        for day, fresh in by_day.items():
            file = self._file(source, zone, day)
            entries = {e.slot.start_s: e for e in self._read(file)}
            entries |= {s.start_s: CachedSlot(slot=s, fetched_s=now_s) for s in fresh}
            if file is not None:
                _replace(file, [asdict(entries[t]) for t in sorted(entries)])

    def _file(self, source: str, zone: str, day: int) -> Path | None:
        return None if self.folder is None else self.folder / source / zone / f"{day}.json"

    @staticmethod
    def _read(file: Path | None) -> Iterator[CachedSlot]:
        if file is None:
            return
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
            entries = [
                CachedSlot(slot=IntensitySlot(**row["slot"]), fetched_s=float(row["fetched_s"]))
                for row in rows
            ]
        except (OSError, ValueError, TypeError, KeyError):
            return
        yield from entries


def _replace(file: Path, content: Any) -> None:
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

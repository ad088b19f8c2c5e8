"""The append-only record of one run on local disk, written before anything goes to a server.

One record a line: `crc32 json`, where the JSON object holds `seq` (counting up from 0) and `kind`.
A killed process leaves at most one torn line, at the end. The file is locked (flock) while its
writer lives, so that `recover` can tell a dead run from a running one. Where the disk refuses,
records are kept in memory and the reason is kept in `trouble`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_carbon.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Contents", "Journal", "end", "header", "is_live", "live", "orphans", "read"]

_logger = logging.getLogger(__name__)

_SPILL_LIMIT = 200_000  # records kept in memory where the disk refuses: two days at 1 Hz
_SUFFIX = ".jsonl"
_TAIL = 65_536  # bytes; after the end come few records: what was stored, a late environment
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a journal holds.

    Attributes:
        records: The good records in order, as dicts.
        torn: Whether the last line was cut off (a kill in mid-write; harmless).
        damaged: Line numbers, from 1, of records whose checksum or number is wrong.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    torn: bool = False
    damaged: list[int] = field(default_factory=list)


class Journal:
    """The writer's end. Safe to call from several threads; never raises after construction.

    Args:
        folder: Where journals live; made if it is missing.
        run_id: MLflow run id, or any other name.
        host: Name of this machine for the file name.
    """

    def __init__(self, folder: Path, run_id: str, *, host: str) -> None:
        self._lock = threading.Lock()
        self._spill: list[bytes] = []
        self._seq = 0
        self._fd: int | None = None
        self.path: Path | None = None
        self.trouble: str | None = None
        try:
            self.path, self._fd = _create(folder, f"{_plain(run_id)}.{_plain(host)}.{os.getpid()}")
        except OSError as error:
            # Without the folder: this becomes a tag, and a path may name the user.
            self.trouble = f"the journal cannot be written: {_reason(error)}; set MLFLOW_CARBON_HOME"
            _logger.warning("%s (now %s)", self.trouble, folder)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one record with one system call."""
        with self._lock:
            try:
                line = _encode({"seq": self._seq, "kind": kind, **fields})
            except (TypeError, ValueError) as error:
                self.trouble = f"a {kind} record is no JSON and was left out: {error}"
                return
            self._seq += 1
            if self._fd is not None and not self._spill:
                try:
                    _write_all(self._fd, line)
                except OSError as error:
                    self.trouble = f"the journal cannot be written: {_reason(error)}"
                else:
                    return
            if len(self._spill) < _SPILL_LIMIT:
                self._spill.append(line)

    def sync(self) -> None:
        """Ask the disk to keep what was written (a power cut loses what came after the last sync)."""
        fd = self._fd
        if fd is not None:
            try:
                getattr(os, "fdatasync", os.fsync)(fd)
            except OSError as error:
                self.trouble = f"the journal cannot be synced: {_reason(error)}"

    def contents(self) -> Contents:
        """Everything written so far, from disk and from memory."""
        with self._lock:
            data = self.path.read_bytes() if self.path is not None and self.path.exists() else b""
            whole, _, _ = data.rpartition(b"\n")  # a record that the disk took in part is in memory in full
            return _decode([*whole.split(b"\n"), *self._spill] if whole else self._spill, torn=False)

    def close(self) -> None:
        """Give up the file and its lock; the file stays."""
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def delete(self) -> None:
        """Close and remove the file: its run is stored."""
        if self.path is not None:  # removed while locked: nobody takes it for an orphan
            self.path.unlink(missing_ok=True)
        self.close()

    def forget(self) -> None:
        """In a forked child: drop the descriptor without touching the parent's file or lock."""
        self._lock = threading.Lock()
        self.close()


def read(path: Path) -> Contents:
    """Read a journal, tolerating a torn last line and reporting damage elsewhere.

    Raises:
        JournalError: If the file cannot be read or is not a journal.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalError(f"expected a journal, got {error.strerror}: {path}") from error
    lines = data.split(b"\n")
    torn = lines[-1] != b""
    contents = _decode([line for line in lines if line], torn=torn)
    if not contents.records:
        raise JournalError(f"expected a journal, got no readable record: {path}")
    return contents


def header(path: Path) -> dict[str, Any] | None:
    """The first record of a journal without reading the rest; None if there is none."""
    try:
        with path.open("rb") as file:
            return _parse(file.readline().rstrip(b"\n"))
    except OSError:
        return None


def end(path: Path) -> dict[str, Any] | None:
    """The record of a regular end without reading the rest; None if the span still lasts."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            records = (_parse(line) for line in file.read().split(b"\n"))
            return next((r for r in records if r is not None and r.get("kind") == "end"), None)
    except OSError:
        return None


def is_live(path: Path) -> bool:
    """Whether a living process still holds the journal."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, so that two who look at the same time do not take each other for the writer.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def live(folder: Path) -> Iterator[Path]:
    """Journals of this folder whose writers live, on this host."""
    return (path for path in _journals(folder) if is_live(path))


def orphans(folder: Path, run_id: str | None = None) -> list[Path]:
    """Journals whose writers are gone, oldest first; of one run only, if it is named."""
    found = [p for p in _journals(folder) if not is_live(p)]
    if run_id is not None:
        found = [p for p in found if p.name.startswith(f"{_plain(run_id)}.")]
    return sorted(found, key=_modified_s)


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # recovered by somebody else in this moment
        return 0.0


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []


def _create(folder: Path, stem: str) -> tuple[Path, int]:
    import fcntl

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    number = 0
    while True:
        path = folder / (f"{stem}{_SUFFIX}" if number == 0 else f"{stem}-{number}{_SUFFIX}")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            number += 1
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # waits at most for somebody who is just looking
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return path, fd


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _write_all(fd: int, line: bytes) -> None:
    while line:
        line = line[os.write(fd, line) :]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:80]


def _encode(record: dict[str, Any]) -> bytes:
    body = _ENCODER.encode(record).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> dict[str, Any] | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        record = json.loads(body)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _decode(lines: list[bytes], *, torn: bool) -> Contents:
    records: list[dict[str, Any]] = []
    damaged: list[int] = []
    expected = 0
    for number, line in enumerate(lines, start=1):
        if torn and number == len(lines):
            break
        record = _parse(line.rstrip(b"\n"))
        if record is None:
            damaged.append(number)
            expected += 1
            continue
        seq = record.get("seq")
        if seq != expected:
            damaged.append(number)
        expected = 1 + (seq if isinstance(seq, int) else expected)
        records.append(record)
    return Contents(records=records, torn=torn, damaged=damaged)

"""The writer of a journal."""

from __future__ import annotations

import logging
import os
import threading
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from mlflow_carbon.journal.folder import SUFFIX, plain
from mlflow_carbon.journal.record import encode, stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Journal"]

_logger = logging.getLogger(__name__)

_SPILL_LIMIT = 200_000  # records kept in memory where the disk refuses: two days at 1 Hz


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
            self.path, self._fd = _create(folder, f"{plain(run_id)}.{plain(host)}.{os.getpid()}")
        except OSError as error:
            # Without the folder: this becomes a tag, and a path may name the user.
            self.trouble = f"the journal cannot be written: {_reason(error)}; set MLFLOW_CARBON_HOME"
            _logger.warning("%s (now %s)", self.trouble, folder)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one record."""
        self.append_all([(kind, fields)])

    def append_all(self, records: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Write records, kind and fields of each, with one system call."""
        with self._lock:
            lines = [line for kind, fields in records if (line := self._line(kind, fields))]
            taken = self._write(lines) if self._fd is not None and not self._spill else 0
            self._spill += lines[taken : taken + max(0, _SPILL_LIMIT - len(self._spill))]

    def _line(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        try:
            line = encode({"seq": self._seq, "kind": kind, **fields})
        except (TypeError, ValueError) as error:
            self.trouble = f"a {kind} record is no JSON and was left out: {error}"
            return b""
        self._seq += 1
        return line

    def _write(self, lines: Sequence[bytes]) -> int:
        """Write lines; how many of them the disk took in full."""
        written, everything = 0, b"".join(lines)
        try:
            while self._fd is not None and written < len(everything):
                written += os.write(self._fd, everything[written:])
        except OSError as error:
            self.trouble = f"the journal cannot be written: {_reason(error)}"
        return sum(end <= written for end in accumulate(map(len, lines)))

    def sync(self) -> None:
        """Ask the disk to keep what was written (a power cut loses what came after the last sync)."""
        fd = self._fd
        if fd is not None:
            try:
                getattr(os, "fdatasync", os.fsync)(fd)
            except OSError as error:
                if self._fd is None:  # closed meanwhile
                    return
                self.trouble = f"the journal cannot be synced: {_reason(error)}"

    def records(self) -> Iterator[dict[str, Any]]:
        """The good records written so far, one by one, from disk and then from memory.

        One that the disk took in part is left out there: it is in memory in full.
        """
        with self._lock:
            spill = tuple(self._spill)
        if self.path is not None and self.path.exists():
            with self.path.open("rb") as file:
                yield from stream(file)
        yield from stream(spill)

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


def _create(folder: Path, stem: str) -> tuple[Path, int]:
    import fcntl

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    number = 0
    while True:
        path = folder / (f"{stem}{SUFFIX}" if number == 0 else f"{stem}-{number}{SUFFIX}")
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

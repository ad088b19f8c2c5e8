"""The journals of this machine: which are alive, which are orphans, and what they hold."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_carbon.errors import JournalError
from mlflow_carbon.journal.record import Contents, decode, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SUFFIX", "end", "header", "is_live", "live", "orphans", "plain", "read", "recovering"]

SUFFIX = ".jsonl"
_TAIL = 65_536  # bytes; after the end come few records: what was stored, a late environment


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
    contents = decode([line for line in lines if line], torn=torn)
    if not contents.records:
        raise JournalError(f"expected a journal, got no readable record: {path}")
    return contents


def header(path: Path) -> dict[str, Any] | None:
    """The first record of a journal without reading the rest; None if there is none."""
    try:
        with path.open("rb") as file:
            return parse(file.readline().rstrip(b"\n"))
    except OSError:
        return None


def end(path: Path) -> dict[str, Any] | None:
    """The record of a regular end without reading the rest; None if the span still lasts."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            records = (parse(line) for line in file.read().split(b"\n"))
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
        found = [p for p in found if p.name.startswith(f"{plain(run_id)}.")]
    return sorted(found, key=_modified_s)


@contextmanager
def recovering(folder: Path) -> Iterator[bool]:
    """One at a time recovers here, since two segments of a run change the same figures; whether it is us."""
    import fcntl

    if not folder.is_dir():
        yield True
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # recovered by somebody else in this moment
        return 0.0


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def plain(name: str) -> str:
    """A name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:80]

"""The journals of this machine: which are alive, which are orphans, and what they hold."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow_carbon.errors import JournalError
from mlflow_carbon.journal.record import Contents, encode, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "SUFFIX",
    "append",
    "end",
    "header",
    "host_of",
    "is_live",
    "is_measured",
    "live",
    "orphans",
    "plain",
    "read",
    "recovering",
    "starting",
]

SUFFIX = ".jsonl"
_PATIENCE_S = 0.2
_AGAIN_S = 0.002
_LAST = 2**20  # bytes that hold at least one whole record
_TAIL = 65_536  # bytes; after the end come few records: what was stored, a late environment


def read(path: Path) -> Contents:
    """A journal to go through, tolerating a torn last line and reporting damage elsewhere.

    Raises:
        JournalError: If the file cannot be read or is not a journal.
    """
    contents = Contents(partial(_lines, path))
    try:
        first = next(contents.records(), None)
    except OSError as error:
        raise JournalError(f"expected a journal, got {error.strerror}: {path}") from error
    if first is None:
        raise JournalError(f"expected a journal, got no readable record: {path}")
    return contents


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


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


def append(path: Path, kind: str, **fields: Any) -> None:
    """Add a record to the journal of a dead process, in place of a line that it could not finish.

    Raises:
        OSError: If the disk refuses.
    """
    with path.open("r+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST))
        tail = file.read()
        *whole, torn = tail.split(b"\n")
        records = enumerate(map(parse, reversed(whole)), start=1)  # damaged ones had numbers too
        seq = next((record["seq"] + since for since, record in records if record is not None), 0)
        file.seek(-len(torn), os.SEEK_END)
        file.truncate()
        file.write(encode({"seq": seq, "kind": kind, **fields}))


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
    else:
        fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked meanwhile would keep it
        return False
    finally:
        os.close(fd)


def live(folder: Path, *, host: str | None = None) -> Iterator[Path]:
    """Journals of this folder whose writers live, of one host if it is named."""
    return (path for path in _journals(folder, host) if is_live(path))


def orphans(folder: Path, run_id: str | None = None, *, host: str | None = None) -> list[Path]:
    """Journals whose writers are gone, oldest first; of one run or host only, if it is named.

    Where machines share a home, only its own machine can tell whether a writer lives: locks may be local.
    """
    found = [p for p in _journals(folder, host) if not is_live(p)]
    if run_id is not None:
        found = [p for p in found if p.name.startswith(f"{plain(run_id)}.")]
    return sorted(found, key=_modified_s)


def is_measured(folder: Path, run_id: str, host: str) -> bool:
    """Whether another living process of this host measures a run, as one of its ranks may do."""
    begins = f"{plain(run_id)}.{plain(host)}."
    found = (path for path in _journals(folder) if path.name.startswith(begins))
    others = (path for path in found if _pid(path) != str(os.getpid()))
    return any(is_live(path) and end(path) is None for path in others)


def _pid(path: Path) -> str:
    return path.stem.rpartition(".")[2].partition("-")[0]


@contextmanager
def starting(folder: Path) -> Iterator[None]:
    """One at a time looks who measures and begins to; who cannot have the lock soon goes on without it."""
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(folder.parent, patience_s=_PATIENCE_S):
        yield


@contextmanager
def recovering(folder: Path) -> Iterator[bool]:
    """One at a time recovers here, since two segments of a run change the same figures; whether it is us."""
    with _locked(folder) as is_ours:
        yield is_ours or not folder.is_dir()


@contextmanager
def _locked(folder: Path, *, patience_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock of a folder, which leaves no file behind; whether it could be had."""
    import fcntl

    try:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        until_s = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= until_s:
                    yield False
                    return
                time.sleep(_AGAIN_S)
            else:
                break
        try:
            yield True
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked meanwhile would keep it
    finally:
        os.close(fd)


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # recovered by somebody else in this moment
        return 0.0


def _journals(folder: Path, host: str | None = None) -> list[Path]:
    found = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    return [path for path in found if host is None or host_of(path) == plain(host)]


def host_of(path: Path) -> str:
    """The machine that a journal was written on, as its name says."""
    return path.stem.rpartition(".")[0].rpartition(".")[2]


def plain(name: str) -> str:
    """A name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:80]

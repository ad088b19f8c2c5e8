"""What a waiting submission leaves on disk, so that the same command goes on with the same run and deadline.

One JSON file per submission under `plans/` of the state directory, replaced whole, readable by its user only.
A lock beside it lives as long as its process, whatever the clocks say: what is not locked is dead.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RUNNING", "WAITING", "Seat", "State", "key_of", "seat"]

SCHEMA = 1
WAITING, RUNNING = "waiting", "running"
_KEY_CHARS = 24
_MOST_SEATS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A submission as it stands.

    Attributes:
        run_id: Its MLflow run.
        tracking_uri: Where that lives, without user info.
        version: Commit that is run, of a project from git; else empty.
        submitted_s: When it was submitted, UTC seconds since the epoch.
        max_wait_s: Longest wait from then.
        finish_by_s: When it should be over; None for no such time.
        policy: Which policy plans.
        phase: `waiting`, or `running` from the moment before the training is started.
        started_s: When that was; None before.
        start_s: Planned start; None before the first plan.
        baseline_gco2e_per_kwh: Intensity at home when it was submitted; None before the first plan.
        source: Of the forecast.
        zone: Where it is to run.
        backend: What runs it, from the moment before the training is started.
        pid: Process that wrote this.
        host: Machine of that process.
        plans: Every plan that differed from the one before.
    """

    run_id: str
    tracking_uri: str
    submitted_s: float
    max_wait_s: float
    policy: str
    host: str
    pid: int
    version: str = ""
    finish_by_s: float | None = None
    phase: str = WAITING
    started_s: float | None = None
    start_s: float | None = None
    baseline_gco2e_per_kwh: float | None = None
    source: str = ""
    zone: str = ""
    backend: str = "local"
    plans: tuple[Mapping[str, Any], ...] = ()


def key_of(uri: str, entry_point: str, parameters: Mapping[str, Any], experiment: str) -> str:
    """The name of a submission: two that would run the same, in the same experiment, have the same."""
    whole = json.dumps(
        [uri, entry_point, sorted((str(k), str(v)) for k, v in parameters.items()), experiment]
    )
    return hashlib.sha256(whole.encode()).hexdigest()[:_KEY_CHARS]


@contextmanager
def seat(folder: Path, key: str) -> Iterator[Seat]:
    """The place of a submission, ours while we live: what a dead process has left, else a free one."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path, lock = _taken(folder, key)
    except OSError as error:
        yield Seat(path=None, number=1, trouble=f"no state can be kept in {folder}: {error.strerror}")
        return
    number = int(path.stem.partition("-")[2] or 1)
    try:
        yield Seat(path=path, number=number)
    finally:
        try:
            with (
                suppress(OSError),
                _one_at_a_time(folder),
            ):  # the folder may be gone: no concern of the training
                if not path.exists():
                    path.with_suffix(".lock").unlink(missing_ok=True)
        finally:
            os.close(lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where one submission keeps its state.

    Attributes:
        path: The file; None where none can be kept.
        number: 1, or more where the same is submitted again while others of it wait.
        trouble: Why no state is kept; empty if it is.
    """

    path: Path | None
    number: int
    trouble: str = ""

    def load(self) -> tuple[State | None, str]:
        """What was left here, or why it is of no use; such a file is moved aside."""
        if self.path is None:
            return None, ""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return _checked(content), ""
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError, TypeError, RecursionError) as error:
            aside = self.path.with_suffix(".unreadable")
            with suppress(OSError):
                self.path.replace(aside)
            what = f"the state file cannot be used ({error}); it is kept as {aside}, and this starts anew"
            return None, f"{what}; a run that it was of may be left SCHEDULED"

    def save(self, state: State) -> None:
        """Replace the file whole.

        Raises:
            OSError: If the disk refuses; the file is as it was before.
        """
        if self.path is None:
            return
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".", suffix=".part")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as part:
                json.dump({"schema": SCHEMA, **asdict(state)}, part)
                part.flush()
                os.fsync(part.fileno())
            Path(name).replace(self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def clear(self) -> None:
        """Leave nothing behind: the submission is over, and what the disk says now does not change how."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _checked(content: Any) -> State:
    """The state of a document.

    Raises:
        ValueError: If it is none of ours.
    """
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        got = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"expected schema {SCHEMA}, got {got!r}")
    values = {f.name: content[f.name] for f in fields(State) if f.name in content}
    wrong = [name for name, value in values.items() if not _is_usable(name, value)]
    if wrong or not values.get("run_id"):
        raise ValueError(f"expected the fields of a submission, got others: {', '.join(wrong) or 'no run'}")
    if values.get("phase") == RUNNING and values.get("started_s") is None:
        raise ValueError("expected the time at which the training started, got none")
    return State(**{**values, "plans": tuple(values.get("plans", ()))})


def _is_usable(name: str, value: Any) -> bool:
    """Whether a field holds what it should; JSON may hold anything."""
    if name == "plans":
        return isinstance(value, list) and all(isinstance(plan, dict) for plan in value)
    if name == "phase":
        return value in {WAITING, RUNNING}
    if name == "max_wait_s":
        return _is_number(value) and value >= 0
    if name == "pid" or name.endswith(("_s", "_kwh")):
        is_optional = name in {"finish_by_s", "started_s", "start_s", "baseline_gco2e_per_kwh"}
        return (value is None and is_optional) or _is_number(value)
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e11  # noqa: PLR2004 - beyond any time


def _taken(folder: Path, key: str) -> tuple[Path, int]:
    """The first place with something left by a dead process, else the first free one, and its lock."""
    with _one_at_a_time(folder):
        places = [_place(folder, key, number) for number in range(1, _MOST_SEATS)]
        for path in (*(p for p in places if p.exists()), *(p for p in places if not p.exists())):
            lock = _locked(path.with_suffix(".lock"))
            if lock is not None:
                return path, lock
    raise OSError(errno.EBUSY, f"{_MOST_SEATS - 1} submissions of the same wait already")


def _place(folder: Path, key: str, number: int) -> Path:
    return folder / (f"{key}.json" if number == 1 else f"{key}-{number}.json")


def _locked(file: Path) -> int | None:
    """The lock of a file, if it is free; children do not inherit it."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    return handle


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Only one process looks for a place, so that nobody takes a look for a life."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

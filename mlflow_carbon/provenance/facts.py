"""Where the readers look: one frozen value instead of globals, so that tests use fake trees."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Place", "here", "text"]

_LIMIT = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The surroundings of a process.

    Attributes:
        root: Root of the file system, for `proc`, `sys` and `etc`.
        env: Environment variables.
        start: Folder of the code that runs; the git repository is looked for from here upwards.
        modules: Modules that are loaded already; nothing is imported to look at it.
        path: Folders that packages are installed in.
        privacy: Host and user names as `hashed`, `full` or `off`.
    """

    root: Path = Path("/")
    env: Mapping[str, str] = field(default_factory=dict)
    start: Path = Path()
    modules: Mapping[str, object] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    privacy: str = "hashed"


def here(*, privacy: str = "hashed") -> Place:
    """The surroundings of this process."""
    return Place(
        env=os.environ,
        start=_start(),
        modules=sys.modules,
        path=tuple(sys.path),
        privacy=privacy,
    )


def text(path: Path, *, limit: int = _LIMIT) -> str:
    """The beginning of a small text file, stripped; empty if it cannot be read.

    The limit matters for `proc/cpuinfo`, which the kernel makes as it is read: the first processor
    is enough and does not cost the time of all.
    """
    content = bytearray()
    try:
        with path.open("rb", buffering=0) as file:
            while len(content) < limit and (part := file.read(limit - len(content))):
                content += part
    except OSError:
        return ""
    return content.decode("utf-8", "replace").strip("\0 \t\r\n")


def _start() -> Path:
    """The folder of the main script, unless that belongs to the interpreter's own installation."""
    try:
        cwd = Path.cwd()
    except OSError:  # the folder was deleted
        cwd = Path("/")
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(file, str):
        return cwd
    main = cwd / file
    inside = {Path(sys.prefix), Path(sys.base_prefix)} & set(main.parents)
    return cwd if inside else main.parent

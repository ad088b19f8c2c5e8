"""Forked processes with a session of their own, and what they leave behind."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def forked(action: Callable[[], None], log: Path) -> int:
    """A process with a session of its own that does this and ends; its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        action()
        code = 0
    finally:  # whatever happens, the fork must not go on as its parent
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def left_over(session: int, patience_s: float) -> list[str]:
    """Names of processes of a session that live on for so long (a child that is about to end is no orphan)."""
    until_s = time.monotonic() + patience_s
    while (found := members(session)) and time.monotonic() < until_s:
        time.sleep(0.02)
    return list(found.values())


def members(session: int) -> dict[int, str]:
    """Living processes of a session: their names by id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text(encoding="utf-8", errors="replace").rpartition(") ")
        except OSError:  # it has just ended
            continue
        state, _parent, _group, its_session = rest.split()[:4]
        if int(its_session) == session and state != "Z":
            found[int(path.parent.name)] = name.partition("(")[2]
    return found

"""Git facts by reading `.git` in pure Python: no subprocess, no GitPython, a few small files.

Knows plain checkouts, linked worktrees, submodules, a detached HEAD and packed refs. Whether the
working tree has changes needs git itself: `is_dirty`, which only the background calls.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.provenance.facts import text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["DETACHED", "STATUS_TIMEOUT_S", "Git", "is_dirty", "read"]

DETACHED = "detached"
STATUS_TIMEOUT_S = 2.0

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MAX_LINKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """The state of a checkout.

    Attributes:
        folder: Its top folder; never recorded, since it may hold a user's name.
        commit: Full hash; None before the first commit or where the refs cannot be read.
        branch: Short name of the branch, or `detached`.
        remote: Address of `origin` without user, password and query; None if it is not a network address.
    """

    folder: Path
    commit: str | None
    branch: str
    remote: str | None


def read(start: Path) -> Git | None:
    """The checkout that holds a folder; None if there is none."""
    for folder in (start, *start.parents):
        git = _git_folder(folder)
        if git is not None:
            break
    else:
        return None
    # A linked worktree keeps HEAD for itself and shares refs and configuration.
    shared = git / (text(git / "commondir") or ".")
    head = text(git / "HEAD")
    name = head.removeprefix("ref:").strip() if head.startswith("ref:") else ""
    return Git(
        folder=folder,
        commit=_commit(git, shared, head),
        branch=name.removeprefix("refs/heads/") if name else DETACHED,
        remote=_remote(text(shared / "config")),
    )


def is_dirty(folder: Path, *, env: Mapping[str, str], timeout_s: float = STATUS_TIMEOUT_S) -> bool | None:
    """Whether tracked files differ from the commit; None if git does not say in time.

    Untracked files do not count: a run itself makes some (`mlflow.db`, `mlruns`).
    """
    import subprocess

    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder)]
    try:
        done = subprocess.run(
            [*command, "status", "--porcelain=v2", "--untracked-files=no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=True,
            # A hook's GIT_DIR would make git look at another repository.
            env={k: v for k, v in env.items() if not k.startswith("GIT_")},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return bool(done.stdout.strip())


def _git_folder(folder: Path) -> Path | None:
    entry = folder / ".git"
    if entry.is_dir():
        return entry
    pointer = text(entry)
    return folder / pointer.removeprefix("gitdir:").strip() if pointer.startswith("gitdir:") else None


def _commit(git: Path, shared: Path, head: str) -> str | None:
    value = head
    for _ in range(_MAX_LINKS):
        if not value.startswith("ref:"):
            break
        name = value.removeprefix("ref:").strip()
        value = text(git / name) or text(shared / name) or _packed(shared, name)
    return value if _HASH.fullmatch(value) else None


def _packed(shared: Path, name: str) -> str:
    for line in text(shared / "packed-refs", limit=16_777_216).splitlines():
        commit, _, ref = line.partition(" ")
        if ref == name:
            return commit
    return ""


def _remote(config: str) -> str | None:
    section = ""
    for line in (raw.strip() for raw in config.splitlines()):
        if line.startswith("["):
            section = line
        key, found, value = line.partition("=")
        if section == '[remote "origin"]' and found and key.strip() == "url":
            return _without_secrets(value.strip().strip('"'))
    return None


def _without_secrets(url: str) -> str | None:
    """The address without user info, query and fragment; a local path is left out altogether."""
    plain = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, found, rest = plain.partition("://")
    if found:
        host, slash, path = rest.partition("/")
        return None if scheme == "file" else f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    host, colon, path = plain.partition(":")
    return f"{host.rpartition('@')[2]}:{path}" if colon and "/" not in host else None

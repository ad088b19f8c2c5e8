"""Git facts: real repositories where git makes them, written ones where it would be slow to."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.provenance import git
from tests.trees import COMMIT, OTHER, grow

if TYPE_CHECKING:
    from pathlib import Path

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def run(folder: Path, *arguments: str) -> str:
    """What git prints."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=CLEAN, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit on the branch `main`."""
    folder = tmp_path / "repository"
    folder.mkdir()
    run(folder, "init", "-q", "-b", "main")
    (folder / "train.py").write_text("x = 1\n")
    run(folder, "add", ".")
    run(folder, "commit", "-qm", "first")
    return folder


def test_a_branch_is_read_as_git_says(repository):
    """Commit and branch equal git's own, also from a folder inside."""
    inside = repository / "a" / "b"
    inside.mkdir(parents=True)
    found = git.read(inside)
    assert found == git.Git(
        folder=repository, commit=run(repository, "rev-parse", "HEAD"), branch="main", remote=None
    )


def test_packed_refs_are_read(repository):
    """`git gc` moves the branch into one file."""
    run(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/main").exists()
    assert git.read(repository) == git.Git(
        folder=repository, commit=run(repository, "rev-parse", "HEAD"), branch="main", remote=None
    )


def test_a_detached_head_has_a_commit(repository):
    """As in most continuous integration."""
    commit = run(repository, "rev-parse", "HEAD")
    run(repository, "checkout", "-q", "--detach")
    found = git.read(repository)
    assert found is not None
    assert (found.commit, found.branch) == (commit, "detached")


def test_a_linked_worktree_is_read(repository, tmp_path):
    """Its HEAD is its own, its refs are shared."""
    tree = tmp_path / "tree"
    run(repository, "worktree", "add", "-q", "-b", "feature/x", str(tree))
    found = git.read(tree)
    assert found is not None
    assert (found.folder, found.branch) == (tree, "feature/x")
    assert found.commit == run(tree, "rev-parse", "HEAD")


def test_a_repository_without_a_commit(tmp_path):
    """There is a branch, and no commit yet."""
    run(tmp_path, "init", "-q", "-b", "trunk")
    found = git.read(tmp_path)
    assert found is not None
    assert (found.commit, found.branch) == (None, "trunk")


def test_outside_of_git_there_is_nothing(tmp_path):
    """No repository above the folder."""
    assert git.read(tmp_path) is None


def test_a_submodule_is_read(tmp_path):
    """Its `.git` is a file with a relative path."""
    grow(
        tmp_path,
        {
            ".git/modules/part/HEAD": "ref: refs/heads/main\n",
            ".git/modules/part/refs/heads/main": COMMIT + "\n",
            "part/.git": "gitdir: ../.git/modules/part\n",
        },
    )
    found = git.read(tmp_path / "part")
    assert found is not None
    assert found.commit == COMMIT


def test_refs_that_point_at_refs_end(tmp_path):
    """A chain is followed, a circle is not followed for ever."""
    chain = {
        ".git/HEAD": "ref: refs/heads/a",
        ".git/refs/heads/a": "ref: refs/heads/b",
        ".git/refs/heads/b": OTHER,
    }
    found = git.read(grow(tmp_path / "chain", chain))
    assert found is not None
    assert found.commit == OTHER
    circle = {".git/HEAD": "ref: refs/heads/a", ".git/refs/heads/a": "ref: refs/heads/a"}
    found = git.read(grow(tmp_path / "circle", circle))
    assert found is not None
    assert found.commit is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://alice:hunter2@example.org/team/x.git", "https://example.org/team/x.git"),
        ("https://example.org/x.git?private_token=abc#y", "https://example.org/x.git"),
        ("ssh://git@example.org:22/x.git", "ssh://example.org:22/x.git"),
        ("git@example.org:team/x.git", "example.org:team/x.git"),
        ("https://a@b@example.org/x", "https://example.org/x"),
        ("/home/alice/x.git", None),
        ("file:///home/alice/x.git", None),
        ("../x.git", None),
    ],
)
def test_the_remote_holds_no_user_and_no_local_path(tmp_path, url, shown):
    """User info, queries and paths of this machine are never recorded."""
    config = (
        f'[core]\n\turl = no\n[remote "upstream"]\n\turl = https://no\n[remote "origin"]\n\turl = {url}\n'
    )
    found = git.read(grow(tmp_path, {".git/HEAD": COMMIT, ".git/config": config}))
    assert found is not None
    assert found.remote == shown


@settings(max_examples=40)
@given(head=st.binary(max_size=80), packed=st.binary(max_size=80))
def test_any_bytes_in_git_are_no_error(tmp_path_factory, head, packed):
    """A damaged repository has a commit of 40 hexadecimal digits or none."""
    root = tmp_path_factory.mktemp("damaged")
    (root / ".git").mkdir()
    (root / ".git/HEAD").write_bytes(head)
    (root / ".git/packed-refs").write_bytes(packed)
    found = git.read(root)
    assert found is not None
    assert found.commit is None or len(found.commit) in {40, 64}


def test_dirty_is_about_tracked_files(repository):
    """An untracked file (MLflow makes some) is no change, an edited one is."""
    assert git.is_dirty(repository, env=CLEAN) is False
    (repository / "mlflow.db").write_text("")
    assert git.is_dirty(repository, env=CLEAN) is False
    (repository / "train.py").write_text("x = 2\n")
    assert git.is_dirty(repository, env=CLEAN) is True


def test_a_hooks_git_dir_does_not_mislead(repository, tmp_path):
    """`GIT_DIR` in the environment names another repository and is left out."""
    assert git.is_dirty(repository, env=CLEAN | {"GIT_DIR": str(tmp_path)}) is False


def test_no_lock_is_left_by_status(repository):
    """A read-only look must not get in the way of the user's own git."""
    index = repository / ".git/index"
    before = index.stat().st_mtime_ns
    os.utime(repository / "train.py", (1, 1))
    git.is_dirty(repository, env=CLEAN)
    assert index.stat().st_mtime_ns == before


@pytest.mark.parametrize("script", ["sleep 30", "exit 128"])
def test_a_git_that_hangs_or_fails_is_unknown(repository, tmp_path, script):
    """After the limit the child is ended and the answer is None."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nexec {script}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    env = CLEAN | {"PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}"}
    assert git.is_dirty(repository, env=env, timeout_s=0.1) is None


def test_no_git_at_all_is_unknown(repository):
    """An environment without a PATH to git."""
    assert git.is_dirty(repository, env={"PATH": "/nonexistent"}) is None

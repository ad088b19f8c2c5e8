"""The state of a waiting submission: whole or not at all, one process each, and no trust in what lies there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.scheduling.state import RUNNING, Seat, State, key_of, seat

KEPT = State(
    run_id="r1",
    tracking_uri="sqlite:////x.db",
    submitted_s=1_772_452_860.5,
    max_wait_s=3600.0,
    policy="window",
    host="here",
    pid=7,
    plans=({"zone": "GB"},),
)


def test_what_is_saved_comes_back_and_only_its_user_reads_it(tmp_path):
    """A round trip, mode 0600, and no part files."""
    with seat(tmp_path / "plans", "k") as mine:
        mine.save(KEPT)
        assert mine.path is not None
        assert mine.path.stat().st_mode & 0o777 == 0o600
        assert sorted(p.name for p in mine.path.parent.iterdir()) == ["k.json", "k.lock"]
    with seat(tmp_path / "plans", "k") as again:
        assert again.load() == (KEPT, "")
        again.clear()
        again.clear()
    assert list((tmp_path / "plans").iterdir()) == []


def test_the_same_submission_has_the_same_key():
    """The order of parameters does not matter; project, entry point, values and experiment do."""
    key = key_of("/p", "main", {"a": 1, "b": "2"}, "0")
    assert key == key_of("/p", "main", {"b": 2, "a": "1"}, "0")
    others = (
        key_of("/q", "main", {"a": 1, "b": 2}, "0"),
        key_of("/p", "test", {"a": 1, "b": 2}, "0"),
        key_of("/p", "main", {"a": 1, "b": 3}, "0"),
        key_of("/p", "main", {"a": 1, "b": 2}, "1"),
    )
    assert len({key, *others}) == 5


def test_who_lives_keeps_the_seat_and_who_is_dead_leaves_it(tmp_path):
    """A second process gets a seat of its own, and later the one that the first has left."""
    with seat(tmp_path, "k") as first:
        first.save(KEPT)
        with seat(tmp_path, "k") as second:
            assert (first.number, second.number) == (1, 2)
            assert second.load() == (None, "")
    with seat(tmp_path, "k") as third:
        assert third.number == 1
        assert third.load() == (KEPT, "")


def test_what_another_seat_has_left_comes_first(tmp_path):
    """Of two that died, a restart takes the first, a second restart the other; only then a free seat."""
    for name in ("k-2.json", "k-4.json"):
        (tmp_path / name).write_text("{}")
    with seat(tmp_path, "k") as one, seat(tmp_path, "k") as two, seat(tmp_path, "k") as three:
        assert [one.number, two.number, three.number] == [2, 4, 1]


def test_a_process_that_is_killed_lets_go(tmp_path):
    """The lock dies with its process, and a child does not inherit it."""
    code = (
        "import sys, time, subprocess\nfrom pathlib import Path\n"
        "from mlflow_carbon.scheduling.state import seat\n"
        "with seat(Path(sys.argv[1]), 'k') as mine:\n"
        "    child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "    mine.path.write_text('{}')\n"
        "    print(child.pid, flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    with seat(tmp_path, "k") as other:
        assert other.number == 2
    holder.kill()
    holder.communicate()
    with seat(tmp_path, "k") as mine:
        assert mine.number == 1
    os.kill(child, 9)


BAD: tuple[tuple[str, str], ...] = (
    ("", "cannot be used"),
    ('{"schema": 1, "run_id": "r', "cannot be used"),
    ("[1]", "expected schema 1, got 'list'"),
    ('{"schema": 2}', "expected schema 1, got 2"),
    ('{"schema": 1}', "expected the fields"),
    ('{"schema": 1, "run_id": "r"}', "cannot be used"),
    ("\x00\xff", "cannot be used"),
    ("[" * 100_000, "cannot be used"),
)


@pytest.mark.parametrize(("text", "words"), BAD, ids=[t[:12] for t, _ in BAD])
def test_what_is_damaged_or_foreign_is_moved_aside(tmp_path, text, words):
    """It says so, keeps the file, and starts anew."""
    with seat(tmp_path, "k") as mine:
        assert mine.path is not None
        mine.path.write_text(text, encoding="latin-1")
        state, trouble = mine.load()
        assert state is None
        assert words in trouble
        assert (tmp_path / "k.unreadable").exists()
        assert mine.load() == (None, "")


WRONG: tuple[dict[str, Any], ...] = (
    {"run_id": ""},
    {"run_id": 5},
    {"submitted_s": "yesterday"},
    {"submitted_s": None},
    {"submitted_s": 1e300},
    {"max_wait_s": True},
    {"max_wait_s": -3600.0},
    {"finish_by_s": []},
    {"phase": "dreaming"},
    {"phase": ["waiting"]},
    {"phase": RUNNING, "started_s": None},
    {"plans": "none"},
    {"plans": [1]},
    {"host": None},
)


@pytest.mark.parametrize("change", WRONG, ids=map(str, WRONG))
def test_a_field_of_the_wrong_kind_makes_it_unusable(tmp_path, change):
    """A file that was edited by hand cannot bring the scheduler down later."""
    mine = Seat(path=tmp_path / "k.json", number=1)
    (tmp_path / "k.json").write_text(json.dumps({"schema": 1, **asdict(KEPT), **change}))
    state, trouble = mine.load()
    assert state is None
    assert "cannot be used" in trouble


@given(cut=st.integers(0, 400))
def test_a_file_cut_anywhere_is_whole_or_unusable(tmp_path_factory, cut):
    """Whatever a full disk leaves is noticed."""
    path = tmp_path_factory.mktemp("plans") / "k.json"
    whole = json.dumps({"schema": 1, **asdict(KEPT)})
    path.write_text(whole[:cut])
    state, trouble = Seat(path=path, number=1).load()
    assert (state is None) == bool(trouble)
    assert state == (KEPT if cut >= len(whole) else None)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    """No state is kept, and the reason is there to be told."""
    (tmp_path / "plans").write_text("a file")
    with seat(tmp_path / "plans", "k") as nowhere:
        assert nowhere.path is None
        assert "no state can be kept" in nowhere.trouble
        nowhere.save(KEPT)
        assert nowhere.load() == (None, "")
        nowhere.clear()


def test_a_folder_that_goes_away_meanwhile_is_no_error(tmp_path):
    """Somebody cleans up while a training runs: it ends as it ends."""
    with seat(tmp_path / "plans", "k") as mine:
        mine.save(KEPT)
        shutil.rmtree(tmp_path / "plans")
        mine.clear()
    assert not (tmp_path / "plans").exists()

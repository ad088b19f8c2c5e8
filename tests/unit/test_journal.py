"""The journal: what was written is read back, what is damaged is found, and who is alive is known."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_carbon import journal
from mlflow_carbon.errors import JournalError
from mlflow_carbon.journal import Journal

ROOT = Path(__file__).resolve().parents[2]
RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("header", {"run_id": "run1", "name": "Zürich ☀"}),
    ("tick", {"s": [["cpu", 1, 2, None]], "ph": {"forward": 12}}),
    ("end", {"status": "FINISHED"}),
]
_FIELDS = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name not in ("kind", "seq", "self")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)  # fmt: skip


def _written(folder, records=RECORDS):
    """A journal with these records, closed, as its path and its bytes."""
    writer = Journal(folder, "run1", host="here")
    for kind, fields in records:
        writer.append(kind, **fields)
    writer.close()
    assert writer.path is not None
    return writer.path, writer.path.read_bytes()


def _expected(records=RECORDS):
    return [{"seq": seq, "kind": kind, **fields} for seq, (kind, fields) in enumerate(records)]


def _line(body):
    return b"%08x %b\n" % (zlib.crc32(body), body)


def test_what_was_written_is_read_back(tmp_path):
    """Every record with its number and kind, none torn, none damaged."""
    path, _ = _written(tmp_path)
    found = journal.read(path)
    assert (list(found.records()), found.torn, found.damaged) == (_expected(), False, [])
    assert journal.header(path) == _expected()[0]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["tick", "step"]), _FIELDS), min_size=1, max_size=5))
def test_any_record_survives_the_disk(tmp_path, records):
    """Line feeds, quotes, emoji and long numbers included."""
    path, _ = _written(tmp_path, records)
    assert list(journal.read(path).records()) == _expected(records)


def test_the_file_is_named_after_run_host_and_process(tmp_path):
    """A name of any kind makes a plain file name, in a folder that is made for it."""
    folder = tmp_path / "a" / "b"
    writer = Journal(folder, "../run/1 ☀", host="my.host")
    assert writer.path == folder / f"___run_1__.my_host.{os.getpid()}.jsonl"
    writer.close()


def test_files_are_private(tmp_path):
    """Names and powers of a machine are its user's own: 0600, in a folder of 0700."""
    path, _ = _written(tmp_path / "journal")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_second_journal_of_a_run_takes_another_name(tmp_path):
    """A run that is resumed in the same process does not write into the journal before."""
    first, second = (Journal(tmp_path, "run1", host="here") for _ in range(2))
    assert first.path is not None
    assert second.path == first.path.with_name(f"{first.path.stem}-1.jsonl")
    first.close()
    second.close()


def test_a_cut_at_any_byte_of_the_last_record_leaves_the_others(tmp_path):
    """A kill in mid-write costs the record that was being written, and nothing else."""
    path, whole = _written(tmp_path)
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for length in range(start + 1, len(whole)):
        path.write_bytes(whole[:length])
        found = journal.read(path)
        assert (list(found.records()), found.torn, found.damaged) == (_expected()[:2], True, []), length


def test_a_cut_between_two_records_is_no_damage(tmp_path):
    """Whole lines are whole records."""
    path, whole = _written(tmp_path)
    for count, length in enumerate((i + 1 for i, byte in enumerate(whole) if byte == ord("\n")), start=1):
        path.write_bytes(whole[:length])
        found = journal.read(path)
        assert (list(found.records()), found.torn, found.damaged) == (_expected()[:count], False, [])


def test_one_altered_byte_anywhere_is_found(tmp_path):
    """A flipped bit, another case or a line feed, at every place: no altered record is taken for a good one."""
    path, whole = _written(tmp_path)
    good = _expected()
    for index in range(len(whole)):
        for byte in {whole[index] ^ 0x01, whole[index] ^ 0x20, ord("\n")} - {whole[index]}:
            path.write_bytes(whole[:index] + bytes([byte]) + whole[index + 1 :])
            found = journal.read(path)
            records = list(found.records())
            assert found.damaged or found.torn, (index, byte)
            assert all(record in good for record in records), (index, byte)
            assert len(records) >= len(good) - 2, (index, byte)


def test_damage_is_named_by_its_line_and_costs_only_itself(tmp_path):
    """The second of three records is broken: it is left out, and the third one is still good."""
    path, whole = _written(tmp_path)
    path.write_bytes(whole.replace(b"forward", b"farward"))
    found = journal.read(path)
    assert list(found.records()) == [_expected()[0], _expected()[2]]
    assert found.damaged == [2]


def test_a_missing_record_is_found_by_its_number(tmp_path):
    """A line that was cut out leaves a jump from 0 to 2; what follows is good again."""
    path, whole = _written(tmp_path, [*RECORDS, ("more", {})])
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    found = journal.read(path)
    assert [r["seq"] for r in found.records()] == [0, 2, 3]
    assert found.damaged == [2]


def test_records_that_are_no_objects_are_damage(tmp_path):
    """A checksum alone makes no record: a list, no JSON, and a record without a number."""
    path = tmp_path / "run1.here.1.jsonl"
    path.write_bytes(
        b"".join(map(_line, [b'{"seq":0,"kind":"header"}', b"[1]", b"", b'{"seq":"x","kind":"a"}']))
    )
    found = journal.read(path)
    assert [r["kind"] for r in found.records()] == ["header", "a"]
    assert found.damaged == [2, 3, 4]


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b"\0" * 100, b"00000000 \n", b"no newline"])
def test_a_file_that_is_no_journal_is_refused(tmp_path, content):
    """With what was expected, and its name."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=f"expected a journal, got no readable record: {path}"):
        journal.read(path)
    assert journal.header(path) is None


def test_a_missing_file_is_refused(tmp_path):
    """So is a folder."""
    with pytest.raises(JournalError, match="expected a journal, got No such file or directory"):
        journal.read(tmp_path / "x.jsonl")
    assert journal.header(tmp_path / "x.jsonl") is None
    assert journal.header(tmp_path) is None


def test_a_disk_that_refuses_spills_into_memory(tmp_path):
    """The closed descriptor stands for a full or unplugged disk: nothing raises and no record is lost."""
    writer = Journal(tmp_path, "run1", host="here")
    kind, fields = RECORDS[0]
    writer.append(kind, **fields)
    assert writer._fd is not None
    os.close(writer._fd)
    for kind, fields in RECORDS[1:]:
        writer.append(kind, **fields)
    writer.sync()
    assert writer.trouble == "the journal cannot be synced: Bad file descriptor"
    assert list(writer.records()) == _expected()
    writer._fd = None
    writer.delete()
    assert list(tmp_path.iterdir()) == []


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from mlflow_carbon.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Journal(Path(sys.argv[1]), "run1", host="here")
writer.append("header", a=1)
room = writer.path.stat().st_size + 10
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
writer.append("tick", text="longer than ten bytes")
writer.append("tick", text="the one after")
print([r["seq"] for r in writer.records()], writer.trouble, writer.path.stat().st_size - room)
"""
_FULL_IN_A_BATCH = """
import resource, signal, sys
from pathlib import Path
from mlflow_carbon.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Journal(Path(sys.argv[1]), "run1", host="here")
writer.append("header", a=1)
room = writer.path.stat().st_size * 2 + 10
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
writer.append_all([("header", {"a": number}) for number in range(3)])
print([r["seq"] for r in writer.records()])
"""


@pytest.mark.slow
def test_a_disk_that_is_full_in_mid_record_loses_nothing(tmp_path):
    """Ten bytes of the second record fit: it is in memory in full, with the one after, and nothing is damaged."""
    assert _script(_FULL_DISK, tmp_path) == "[0, 1, 2] the journal cannot be written: File too large 0"
    (path,) = tmp_path.iterdir()
    found = journal.read(path)  # and what is on the disk is still a journal
    assert ([r["seq"] for r in found.records()], found.torn, found.damaged) == ([0], True, [])


@pytest.mark.slow
def test_a_disk_that_is_full_in_mid_batch_loses_nothing_and_repeats_nothing(tmp_path):
    """Of three records at once the first fits and the second in part: disk and memory together have each once."""
    assert _script(_FULL_IN_A_BATCH, tmp_path) == "[0, 1, 2, 3]"
    (path,) = tmp_path.iterdir()
    found = journal.read(path)
    assert ([r["seq"] for r in found.records()], found.torn, found.damaged) == ([0, 1], True, [])


def test_without_a_folder_everything_is_in_memory(tmp_path):
    """A home that cannot be made is a trouble, not an exception."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    writer = Journal(blocked, "run1", host="here")
    for kind, fields in RECORDS:
        writer.append(kind, **fields)
    writer.sync()
    assert writer.path is None
    assert writer.trouble is not None
    assert writer.trouble.startswith("the journal cannot be written: ")
    assert list(writer.records()) == _expected()
    writer.delete()


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, object()])
def test_a_record_that_is_no_json_is_left_out_and_said_so(tmp_path, value):
    """A NaN from somewhere must not stop the readings that follow; numbers go on without a jump."""
    writer = Journal(tmp_path, "run1", host="here")
    writer.append("header")
    writer.append("tick", value=value)
    writer.append("tick", value=1)
    assert writer.trouble is not None
    assert writer.trouble.startswith("a tick record is no JSON and was left out: ")
    assert writer.path is not None
    found = journal.read(writer.path)
    assert ([r["seq"] for r in found.records()], found.damaged) == ([0, 1], [])
    writer.close()


def test_several_threads_write_whole_records(tmp_path):
    """Every record is whole, and numbers count up as the lines do."""
    writer = Journal(tmp_path, "run1", host="here")

    def write(name):
        for number in range(200):
            writer.append("tick", thread=name, number=number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.path is not None
    found = journal.read(writer.path)
    assert found.damaged == []
    for name in range(4):
        assert [r["number"] for r in found.records() if r["thread"] == name] == list(range(200))
    writer.close()


def test_a_closed_journal_is_an_orphan_and_an_open_one_is_live(tmp_path):
    """The lock tells, in the same process too; of several orphans the oldest is first."""
    writers = [Journal(tmp_path, name, host="here") for name in ("a", "b", "c")]
    paths = [w.path for w in writers if w.path is not None]
    (tmp_path / "notes.txt").write_text("no journal")
    assert list(journal.live(tmp_path)) == paths
    assert journal.orphans(tmp_path) == []
    for age, number in ((10, 2), (20, 0)):
        writers[number].close()
        os.utime(paths[number], (1000 - age, 1000 - age))
    assert list(journal.live(tmp_path)) == [paths[1]]
    assert journal.orphans(tmp_path) == [paths[0], paths[2]]
    assert journal.orphans(tmp_path, "c") == [paths[2]]
    assert journal.orphans(tmp_path, "") == []
    writers[1].close()


def test_looking_does_not_make_a_dead_journal_live(tmp_path):
    """Two who look at the same time do not take each other for the writer."""
    import fcntl

    path, _ = _written(tmp_path)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not journal.is_live(path)


def test_a_folder_that_is_not_there_has_no_journals(tmp_path):
    """Nothing was ever measured."""
    assert journal.orphans(tmp_path / "none") == []
    assert list(journal.live(tmp_path / "none")) == []
    assert not journal.is_live(tmp_path / "none.jsonl")


def test_a_deleted_journal_is_gone(tmp_path):
    """Twice does no harm."""
    writer = Journal(tmp_path, "run1", host="here")
    writer.delete()
    writer.delete()
    assert list(tmp_path.iterdir()) == []


def _script(code, *arguments):
    """Run code in a process of its own; what it printed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_HOLDER = """
import sys, time
from pathlib import Path
from mlflow_carbon.journal import Journal
writer = Journal(Path(sys.argv[1]), "run1", host="here")
writer.append("header", run_id="run1")
print(writer.path, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_the_journal_of_a_killed_process_is_an_orphan(tmp_path):
    """While it lives its journal is live; after kill -9 the lock is gone and the journal is whole."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        path = Path(child.stdout.readline().strip())
        assert journal.is_live(path)
        assert journal.orphans(tmp_path) == []
    finally:
        child.kill()
        child.communicate(timeout=30)
    assert journal.orphans(tmp_path) == [path]
    assert [r["kind"] for r in journal.read(path).records()] == ["header"]


_FORKED = """
import json, os, sys
from pathlib import Path
from mlflow_carbon import journal
folder = Path(sys.argv[1])
writer = journal.Journal(folder, "run1", host="here")
writer.append("header", run_id="run1")
ready, stay = os.pipe(), os.pipe()
if os.fork() == 0:
    writer.forget()
    writer.append("tick", of="the child")
    os.write(ready[1], b"x")
    os.read(stay[0], 1)
    os._exit(0)
os.read(ready[0], 1)
seen = [journal.is_live(writer.path)]          # the child gave up its copy, not our lock
writer.append("tick", of="the parent")
writer.close()
seen.append(journal.is_live(writer.path))      # nor does it hold the lock on
os.write(stay[1], b"x")
os.wait()
print(json.dumps([seen, [r.get("of") for r in journal.read(writer.path).records()]]))
"""


@pytest.mark.slow
def test_a_forked_child_neither_releases_nor_keeps_nor_writes_the_parents_journal(tmp_path):
    """A data loader that was forked off in mid-run has nothing to do with the journal."""
    assert json.loads(_script(_FORKED, tmp_path)) == [[True, False], [None, "the parent"]]


def test_a_lock_ends_with_its_holder_though_a_child_was_forked(tmp_path):
    """A worker process that is forked in the middle keeps the descriptor for hours, but not the lock."""
    with journal.recovering(tmp_path) as is_mine:
        assert is_mine
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        with journal.recovering(tmp_path) as is_free:
            assert is_free
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_journals_of_other_machines_are_left_to_them(tmp_path):
    """Where machines share a home, locks and clocks say nothing about the others."""
    for host in ("node.a", "node-b"):
        writer = journal.Journal(tmp_path, "run1", host=host)
        writer.append("header", run_id="run1")
        writer.close()
    (mine,) = journal.orphans(tmp_path, host="node.a")
    assert journal.host_of(mine) == "node_a"
    assert len(journal.orphans(tmp_path)) == 2


@pytest.mark.parametrize(
    "tail", [b"", b'0badcafe {"seq"', b"0badcafe {}\n"], ids=["whole", "torn", "damaged"]
)
def test_a_record_can_be_added_to_the_journal_of_a_dead_process(tmp_path, tail):
    """With the next number, in place of a torn line; a damaged one stays and is told."""
    path, written = _written(tmp_path)
    path.write_bytes(written + tail)
    journal.append(path, "offset", s=7)
    found = journal.read(path)
    damaged = [4] if tail.endswith(b"\n") else []
    assert list(found.records()) == [*_expected(), {"seq": 3 + len(damaged), "kind": "offset", "s": 7}]
    assert (found.torn, found.damaged) == (False, damaged)

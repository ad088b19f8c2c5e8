"""How the kill loop tells a consistent record from another."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from benchmarks.kill_record import Kill, examine, read_journal

S = 10**9


def line(record):
    """A record as a journal holds it."""
    body = json.dumps(record).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


def journal(ticks=3):
    """The journal of a run that was killed while it was measured."""
    records: list[Any] = [
        {"kind": "header", "start_mono_ns": 0},
        *({"kind": "tick"} for _ in range(ticks)),
    ]
    return b"".join(line(r | {"seq": n}) for n, r in enumerate(records))


def contents(gpu_j=900.0, status="KILLED", **changes):
    """A store that holds three seconds of a GPU at 300 W, read at 0, 1, 2 and 3 s."""
    kwh = gpu_j / 3.6e6
    rows = [{"seq": n, "t_mono_ns": n * S, "channel": "nvml:0", "error": None} for n in range(4)]
    text = "\n".join(json.dumps(row) for row in [{}, *rows])
    total = {"energy_kwh": kwh, "energy_gpu_kwh": kwh, "duration_s": 3.0}
    return {
        "runs": [("r", status, 1)],
        "points": [],
        "latest": {"carbon/energy_kwh": kwh},
        "tags": {},
        "files": {
            "footprint.json": json.dumps({"total": total}).encode(),
            "samples.jsonl.gz": gzip.compress(text.encode()),
        },
        "journals": [],
    } | changes


def look(stored, kept):
    """Facts and problems of a kill at 3.5 s."""
    return examine(stored, kept, Kill(at_ns=3 * S + S // 2, was_done=False), gpu_w=300.0)


def test_a_good_record_has_no_problem():
    """Three seconds of 300 W, the last reading half a second before the kill."""
    facts, problems = look(contents(), {"a": journal()})
    assert problems == []
    assert facts["loss_s"] == pytest.approx(0.5)
    assert facts["moment"] == "while measured"


def test_a_cut_last_line_is_no_problem():
    """A kill in mid-write leaves a line without an end."""
    records, problems = read_journal(journal() + b"0000 {")
    assert (len(records), problems) == (4, [])


def test_damage_is_found():
    """A wrong checksum and a missing record each count."""
    lines = journal().splitlines(keepends=True)
    assert "checksum" in read_journal(b"".join([lines[0], lines[1].replace(b"tick", b"tock")]))[1][0]
    assert "expected number 1, got 2" in read_journal(b"".join([lines[0], lines[2]]))[1][0]


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (contents(gpu_j=940.0), "power x time"),  # 300 W in 3 s and a refresh of 0.1 s: 930 J at most
        (contents(gpu_j=860.0), "power x time"),  # and 870 J at least
        (contents(status="RUNNING"), "status"),
        (contents(journals=["a"]), "left in the journal folder"),
        (contents(latest={"carbon/energy_kwh": 1.0}), "energy"),
        (contents(files={}), "files"),
        (contents(points=[("carbon/time/energy_kwh", v, 5, 0) for v in (2e-4, 1e-4)]), "points"),
    ],
)
def test_a_bad_record_is_found(stored, problem):
    """Energy beyond power x time, a run that never ends, what is missing or contradicts itself."""
    _facts, problems = look(stored, {"a": journal()})
    assert any(text.startswith(problem) for text in problems), problems


def test_moments_are_told_apart():
    """By what the journal holds, and whether the run is in the store."""
    moments = [
        look(contents(runs=[]), {})[0]["moment"],
        look(contents(files={}), {"a": b""})[0]["moment"],
        look(contents(), {"a": journal(0)})[0]["moment"],
        look(contents(), {"a": journal() + line({"seq": 4, "kind": "end"})})[0]["moment"],
        look(contents(), {})[0]["moment"],
    ]
    assert moments == [
        "before the run",
        "before measuring began",
        "before the first reading",
        "while the figures were stored",
        "after everything was stored",
    ]

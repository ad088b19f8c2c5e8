"""What the kills of kill_loop.py say, as a page."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from record import Report, Table, three

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GPU_W = 300.0
LOSS_S = 5.0
TRAIN_S = (0.3, 2.5)
KILL_S = (0.0, 3.2)
START_S = 0.8
END_S = 0.8
TEXT = (
    "A training in an MLflow run on an SQLite store, measured by `autolog()` with a simulated GPU of "
    f"{GPU_W:g} W behind the real NVML binding and the modelled CPU and memory of this machine, is killed with SIGKILL at "
    f"a random moment: a third of the kills in the first {START_S:g} s after `start_run()` is called, a third in the first "
    f"{KILL_S[1]:g} s, and a third around the end of the run, which lasts {TRAIN_S[0]:g} to {TRAIN_S[1]:g} s, while it stores its figures. Then `mlflow-carbon recover` is run; every third time or so "
    "it is killed as well and run again. At the end the journal is put back and recovered once more, which must change "
    "nothing."
)
NOTES = (
    (
        "Journal and store are read with `zlib`, `json` and `sqlite3` alone, so that a mistake of our reader cannot hide "
        "one of our writer."
    ),
    (
        "*Loss* is the time from the last reading in the record to the kill, of kills that hit while the run was "
        "measured and after its first reading."
    ),
    (
        "A run that was killed before the header of its journal was written has no record and stays RUNNING in MLflow, "
        "as it would without us; in that moment nothing was measured yet."
    ),
    (
        "The parent of the trainings has imported everything beforehand, so that a kill costs no import; discovery, "
        "threads, journal, store and environment are each training's own."
    ),
    "SIGKILL leaves the page cache alone: this says nothing about a power cut.",
)


def report(
    found: Sequence[Mapping[str, Any]], *, command: str, loads: tuple[str, str], wall_s: float
) -> Report:
    """What the kills say."""
    cut = sum(r["recover_kill_s"] is not None for r in found)
    kinds = Counter(text.split(":")[0] for r in found for text in r["problems"])
    tables = [
        Table(
            title="Goals",
            text=f"{cut} first calls of `recover` were killed too.",
            head=("What", "Goal", "Found", "Verdict"),
            rows=_goals(found, wall_s),
        ),
        Table(
            title="Where the kill hit",
            text="",
            head=("Moment", "Kills", "Inconsistent"),
            rows=[
                (m, str(n), str(sum(bool(r["problems"]) for r in found if r["moment"] == m)))
                for m, n in Counter(r["moment"] for r in found).most_common()
            ],
        ),
    ]
    if kinds:
        rows = [(kind, str(number)) for kind, number in kinds.most_common()]
        tables.append(Table(title="What was wrong", text="", head=("Problem", "Kills"), rows=rows))
    return Report(
        title=f"{len(found)} kills",
        text=TEXT,
        command=command,
        load=loads,
        tables=tables,
        notes=NOTES,
        raw={"kills": found, "wall_s": round(wall_s, 1)},
    )


def _goals(found: Sequence[Mapping[str, Any]], wall_s: float) -> list[tuple[str, str, str, str]]:
    bad = sum(bool(r["problems"]) for r in found)
    orphans = sum(len(r["orphans"]) for r in found)
    losses = [r["loss_s"] for r in found if r["loss_s"] is not None] or [0.0]
    lost = f"{three(max(losses))} s, median {three(median(losses))} s, n = {len(losses)}"
    minutes = 500 * wall_s / len(found) / 60
    return [
        ("inconsistent records", "0", f"{bad} of {len(found)}", _verdict(not bad)),
        ("longest loss", f"<= {LOSS_S:g} s", lost, _verdict(max(losses) <= LOSS_S)),
        ("orphan processes", "0", str(orphans), _verdict(not orphans)),
        ("wall time of 500 kills", "<= 20 min", f"{minutes:.1f} min", _verdict(minutes <= 20)),
    ]


def _verdict(is_met: object) -> str:
    return "met" if is_met else "**missed**"

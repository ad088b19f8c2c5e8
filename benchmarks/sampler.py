"""Our meter and five others, by the same goals: what they cost, and how far off they are on known waveforms.

Usage: python benchmarks/sampler.py [--quick | --again STEP ...]

The others are installed from PyPI into environments of their own, made once from `benchmarks/peers/*.txt`. Needs
a C compiler `cc` and Linux. About 25 minutes on a quiet machine; `--quick` looks at a few things and writes nothing;
`--again` keeps the last figures of all other steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this program

from peer_costs import PAIR_S, costs, killed, pairs, ranks
from peer_waves import ALL, cases, judge
from peer_world import OURS, PEERS, Driver, Libraries, environment, version_of
from record import PAGES, Report, Table, load, page, write
from sampler_own import virtual_rows
from sampler_rows import HEAD, cost_rows, kill_rows, share_rows, wave_rows

ROUNDS = 7
STEPS = ("costs", "pairs", "virtual", "kills", "ranks", "waves")
TEXT = (
    "Every meter in an environment of its own, on the same simulated machine: a library that poses as NVIDIA's "
    "driver and a folder that poses as `/sys/class/powercap`, both following waveforms whose energy is known. "
    "*CPU* rows: fresh processes, one at a time, the meters in turn, the order reversed in every second round. *Real "
    "time* rows: blocks of 6 to 12 s, six at once. The other rows of G6, G7, G9 and G12 are of ours alone, in virtual "
    "time through the real NVML binding and powercap files."
)
NOTES = (
    (
        "Real time: a meter may count from when it was told to start or from when it had started, and likewise at the "
        "end; what lies between is taken as right. So the seconds that CodeCarbon leaves out while it starts are no error "
        "here (they are in G4)."
    ),
    (
        "Power only: judged by what the simulated sensor shows (25 ms of each 100 ms), since no reader can mend a sensor. "
        "Meters are read once a second, the default of ours, carbontracker and perun; the default is 10 s in eco2AI and "
        "15 s in CodeCarbon."
    ),
    (
        "Energy counter: those that have no such path (carbontracker, eco2AI, perun) read power, which is their row "
        "*power only*. A counter that refreshes each 0.1 s leaves up to 1.5 % of a block of 10 s open."
    ),
    (
        "CPU of a reading beside a computing thread is for the most part waiting for the interpreter's lock: each of the "
        "four calls of a reading gives it up, and until it comes back the thread wakes every 5 ms. Hot and alone the same "
        "reading, with its bookkeeping, is the last row of G1."
    ),
    (
        "CPU of a reading is everything that the main thread did not use, over the readings: 10 Hz (eco2AI: 2 Hz; "
        "carbontracker waits a second inside each reading). perun's sampler is a process of its own, whose time is known "
        "to 10 ms only. Zeus takes no readings where there is a counter."
    ),
    (
        "Ours is measured in a process that has imported MLflow and pynvml, and by `track()`; the others in a bare one. "
        "`start.py` has the figures of `autolog()`."
    ),
    (
        "What ours leaves out between its start and its first reading (G4: the sensors are looked for in the "
        "background) is an error of the real-time rows, which have six processes at once on two cores; what is off "
        "besides stands beside it."
    ),
    "RAPL: CodeCarbon tells the package alone by default and is judged by that; eco2AI has no RAPL.",
    "PUE is taken out where a meter multiplies it in (carbontracker, 1.58 until version 2.4).",
    (
        "G6f: a stated range holds what the board errs by (5 %, arXiv 2312.02741), which no reader mends, and what reading "
        "at moments leaves open. The simulated boards do not err, so the second part is judged alone, too (decision 0014)."
    ),
    (
        "G7 at 1 Hz: what 120 readings of phases of 0.33 s tell is exhausted; no estimate comes below 24 % (decision "
        "0015). So it counts that the stated intervals hold."
    ),
    (
        "Not here: anything on a real GPU (gpu_probe.py is for that); the result of a training under faults, bit by bit "
        "(the tests do that)."
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few things, in three minutes; writes nothing")
    parser.add_argument(
        "--again", nargs="*", metavar="STEP", help=f"measure only these again: {', '.join(STEPS)}"
    )
    options = parser.parse_args()
    quick, before = options.quick, load()
    if wrong := set(options.again or ()) - set(STEPS):
        parser.error(f"expected some of {', '.join(STEPS)}, got {', '.join(wrong)}")
    pythons, missing = _environments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        driver = Driver(pythons, Libraries.compiled(folder), folder)
        raw = _measure(driver, options.again, quick=quick)
    tables = [
        Table(
            title="Goals",
            text=_missing_text(missing),
            head=HEAD,
            rows=[r.texts() for r in _rows(raw, quick=quick)],
        ),
    ]
    report = Report(
        title="Our meter and five others",
        text=TEXT,
        command="make bench-sampler",
        load=(before, load()),
        tables=tables,
        notes=(*NOTES, _when(raw), "Versions: " + ", ".join(f"{p} {version_of(p)}" for p in PEERS) + "."),
        raw=raw,
    )
    if quick:
        texts = {"date": "now", "machine": {}, "title": report.title, "text": "", "command": report.command}
        print(
            page(
                "sampler", texts | {"load": report.load, "tables": [vars_of(t) for t in tables], "notes": ()}
            )
        )
    else:
        write("sampler", report)


def vars_of(table: Table) -> dict[str, Any]:
    """A table as its JSON has it."""
    return {"title": table.title, "text": table.text, "head": table.head, "rows": table.rows}


def _environments() -> tuple[dict[str, Path], dict[str, str]]:
    """Interpreters of the peers, and why others are missing."""
    found, missing = {}, {}
    for peer in PEERS:
        try:
            found[peer] = environment(peer)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            missing[peer] = str(error)
    return found, missing


def _missing_text(missing: dict[str, str]) -> str:
    gone = "; ".join(f"{peer} could not be installed: {reason}" for peer, reason in missing.items())
    return f"Not measured: {gone}." if gone else ""


def _when(raw: dict[str, Any]) -> str:
    """When each step was measured, since some may have been measured again."""
    return "Measured: " + "; ".join(f"{name} {raw['measured'][name]}" for name in STEPS) + "."


def _measure(driver: Driver, again: list[str] | None, *, quick: bool) -> dict[str, Any]:
    tools = [tool for tool in ALL if tool == OURS or tool in driver.pythons]
    kept = PAGES / "sampler.json"
    found = {} if again is None else dict(json.loads(kept.read_text(encoding="utf-8"))["raw"])
    found.setdefault("measured", {})
    steps = {
        "costs": lambda: costs(driver, 1 if quick else ROUNDS, tools),
        "pairs": lambda: pairs(driver, 1 if quick else ROUNDS, 4.0 if quick else PAIR_S),
        "virtual": lambda: _virtual(quick=quick),
        "kills": lambda: {tool: killed(driver, tool) for tool in tools},
        "ranks": lambda: {tool: ranks(driver, tool) for tool in (OURS, "CodeCarbon") if tool in tools},
        "waves": lambda: judge(driver, cases(quick=quick), tools, quick=quick),
    }
    for name in STEPS if again is None else again:
        print(f"{name} ... (load {load()})", file=sys.stderr, flush=True)
        found["measured"][name] = f"{datetime.now(UTC):%H:%M} UTC (load {os.getloadavg()[0]:.1f})"
        found[name] = steps[name]()
    return found


def _virtual(*, quick: bool) -> dict[str, Any]:
    """In a process of its own: `pynvml` keeps the first library it loads."""
    program = Path(__file__).with_name("own_virtual.py")
    command = [sys.executable, str(program), *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _rows(raw: dict[str, Any], *, quick: bool) -> list[Any]:
    found = [
        *cost_rows(raw["costs"]),
        *share_rows(raw["costs"], raw["pairs"]),
        *virtual_rows(raw["virtual"]),
        *wave_rows(cases(quick=quick), raw["waves"]),
        *kill_rows(raw["kills"], raw["ranks"]),
    ]
    return sorted(found, key=lambda row: (int("".join(c for c in row.goal if c.isdigit())), row.goal))


if __name__ == "__main__":
    main()

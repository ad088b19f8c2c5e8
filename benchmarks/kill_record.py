"""What a kill has left on disk and in the store, read with the standard library alone, and what is wrong with it."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import sqlite3
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

J_PER_KWH = 3.6e6
REFRESH_S = 0.1  # of the simulated energy counter
_NS = 1e9
_CLOSE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A SIGKILL: its monotonic time, and whether the training had already stored everything."""

    at_ns: int
    was_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder of one kill: a store, the plugin's home, logs; artifacts are beside it.

    Attributes:
        folder: The folder.
        experiment: MLflow's experiment in the store.
    """

    folder: Path
    experiment: str

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.folder / "mlflow.db"

    @property
    def home(self) -> Path:
        """The plugin's home."""
        return self.folder / "home"

    @property
    def is_done(self) -> Path:
        """Exists once the training has stored everything."""
        return self.folder / "done"

    @property
    def is_ready(self) -> Path:
        """Exists once the training is about to begin its run."""
        return self.folder / "ready"

    def copy(self, number: int) -> Place:
        """A place of its own for a kill, with a copy of the store."""
        place = Place(folder=self.folder.parent / f"kill-{number}", experiment=self.experiment)
        place.folder.mkdir()
        shutil.copy(self.store, place.store)
        return place

    def keep_journals(self) -> dict[str, bytes]:
        """What the dead process has left, by file name."""
        return {path.name: path.read_bytes() for path in self._journals()}

    def put_back(self, kept: Mapping[str, bytes]) -> None:
        """The journals as they were."""
        for name, data in kept.items():
            (self.home / "journal" / name).write_bytes(data)

    def contents(self) -> dict[str, Any]:
        """Everything that the store holds of its run, and which journals there are."""
        with sqlite3.connect(self.store) as store:
            runs = store.execute("SELECT run_uuid, status, end_time FROM runs").fetchall()
            points = store.execute(
                "SELECT key, value, step, timestamp FROM metrics ORDER BY 1, 3, 4, 2"
            ).fetchall()
            latest = dict(store.execute("SELECT key, value FROM latest_metrics").fetchall())
            tags = dict(store.execute("SELECT key, value FROM tags").fetchall())
        run_id = runs[0][0] if runs else ""
        folder = self.folder.parent / "artifacts" / run_id / "artifacts/carbon"
        files = {p.name: p.read_bytes() for p in folder.glob("*")} if run_id and folder.is_dir() else {}
        return {
            "runs": runs,
            "points": points,
            "latest": latest,
            "tags": tags,
            "files": files,
            "journals": [p.name for p in self._journals()],
        }

    def changes(self, before: Mapping[str, Any]) -> list[str]:
        """What is not as it was."""
        now = self.contents()
        found = [
            f"changed by a second recover: {part}"
            for part in ("runs", "points", "latest", "tags", "journals")
            if now[part] != before[part]
        ]
        names = sorted({*now["files"], *before["files"]})
        found += [
            f"changed by a second recover: {n}"
            for n in names
            if now["files"].get(n) != before["files"].get(n)
        ]
        return found

    def _journals(self) -> list[Path]:
        return sorted((self.home / "journal").glob("*.jsonl"))


def examine(
    contents: Mapping[str, Any], kept: Mapping[str, bytes], kill: Kill, *, gpu_w: float
) -> tuple[dict[str, Any], list[str]]:
    """Facts of one kill, and everything that is wrong.

    Args:
        contents: Of the store after `recover`.
        kept: The journals before it.
        kill: The kill.
        gpu_w: What the simulated GPU drew all the time.
    """
    journals = [(name, *read_journal(data)) for name, data in kept.items()]
    wrong = [f"journal: {text}" for _name, _records, texts in journals for text in texts]
    wrong += [f"left in the journal folder: {name}" for name in contents["journals"]]
    records = next((records for _name, records, _texts in journals if records), [])
    moment = _moment(contents, records, kill)
    facts: dict[str, Any] = {"moment": moment, "loss_s": None, "ticks": _count(records, "tick")}
    if len(journals) > 1:
        wrong.append(f"expected one journal at most, got {len(journals)}")
    if moment in ("before the run", "before measuring began"):
        return facts, wrong
    status = contents["runs"][0][1]
    if status not in ("KILLED", "FINISHED"):
        wrong.append(f"status: expected an ended run, got {status}")
    if moment == "before the first reading":
        return facts, wrong
    wrong += list(_figures(contents, gpu_w=gpu_w))
    last_ns = _last_ns(contents)
    if moment == "while measured":
        facts["loss_s"] = (kill.at_ns - last_ns) / _NS
        header = records[0]
        duration_s = _total(contents).get("duration_s") or 0.0
        if duration_s > (kill.at_ns - header["start_mono_ns"]) / _NS + 0.001:
            wrong.append(f"duration: {duration_s} s is beyond the kill")
    return facts, wrong


def read_journal(data: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of a journal and what is wrong: only a cut last line is to be expected."""
    lines = data.split(b"\n")
    records, wrong = [], []
    for number, line in enumerate(lines[:-1]):
        checksum, _, body = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(body):
            wrong.append(f"line {number + 1}: the checksum is wrong")
            continue
        record = json.loads(body)
        if record.get("seq") != number:
            wrong.append(f"line {number + 1}: expected number {number}, got {record.get('seq')}")
        records.append(record)
    if records and records[0].get("kind") != "header":
        wrong.append(f"expected a header first, got {records[0].get('kind')}")
    return records, wrong


def _moment(contents: Mapping[str, Any], records: Sequence[Mapping[str, Any]], kill: Kill) -> str:
    if not contents["runs"]:
        return "before the run"
    if not records and (kill.was_done or "footprint.json" in contents["files"]):
        return "after everything was stored"
    if not records:
        return "before measuring began"
    if _count(records, "end"):
        return "while the figures were stored"
    return "while measured" if _count(records, "tick") else "before the first reading"


def _count(records: Sequence[Mapping[str, Any]], kind: str) -> int:
    return sum(record["kind"] == kind for record in records)


def _total(contents: Mapping[str, Any]) -> dict[str, Any]:
    document = contents["files"].get("footprint.json")
    return dict(json.loads(document)["total"]) if document else {}


def _samples(contents: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The readings that were stored, without the line of the head and those of what stood beside power."""
    packed = contents["files"].get("samples.jsonl.gz")
    rows = [json.loads(line) for line in gzip.decompress(packed).splitlines()[1:]] if packed else []
    return [row for row in rows if "channel" in row]


def _last_ns(contents: Mapping[str, Any]) -> int:
    return max((row["t_mono_ns"] for row in _samples(contents)), default=0)


def _figures(contents: Mapping[str, Any], *, gpu_w: float) -> Iterator[str]:
    """What is wrong with the stored figures."""
    total, rows = _total(contents), _samples(contents)
    if not total or not rows:
        yield f"files: expected footprint and samples, got {sorted(contents['files'])}"
        return
    energy_kwh = total.get("energy_kwh")
    parts = [total.get(f"energy_{name}_kwh") or 0.0 for name in ("cpu", "gpu", "dram")]
    if energy_kwh is None or not math.isfinite(energy_kwh) or energy_kwh < 0:
        yield f"energy: expected a number of at least 0, got {energy_kwh}"
        return
    if not math.isclose(sum(parts), energy_kwh, rel_tol=1e-6, abs_tol=1e-12):
        yield f"energy: the parts {parts} do not add up to {energy_kwh}"
    stored = contents["latest"].get("carbon/energy_kwh")
    if stored is None or not math.isclose(stored, energy_kwh, rel_tol=1e-9):
        yield f"energy: the metric {stored} is not the footprint's {energy_kwh}"
    yield from _gpu(total, rows, gpu_w)
    yield from _order(contents, rows, energy_kwh)


def _gpu(total: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], gpu_w: float) -> Iterator[str]:
    """The GPU's energy against its known power."""
    gpu_j = (total.get("energy_gpu_kwh") or 0.0) * J_PER_KWH
    times = [row["t_mono_ns"] for row in rows if row["channel"] == "nvml:0" and row["error"] is None]
    seen_s = (max(times) - min(times)) / _NS if times else 0.0
    most_j = gpu_w * (total["duration_s"] + REFRESH_S) + _CLOSE
    least_j = gpu_w * (min(seen_s, total["duration_s"]) - REFRESH_S)
    if not least_j <= gpu_j <= most_j:
        yield f"power x time: GPU {gpu_j:.3f} J, expected {least_j:.3f} to {most_j:.3f} J"


def _order(
    contents: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], energy_kwh: float
) -> Iterator[str]:
    """Readings count up, and so does the energy over time."""
    seen: dict[str, tuple[int, int]] = {}
    for row in rows:  # a first pass may hold an older reading too, so the number alone need not grow
        place = row["seq"], row["t_mono_ns"]
        if place <= seen.get(row["channel"], (-1, -1)):
            yield f"readings: {row['channel']} has {place} after {seen[row['channel']]}"
            break
        seen[row["channel"]] = place
    values = [value for key, value, _step, _t in contents["points"] if key == "carbon/time/energy_kwh"]
    if any(a > b * (1 + _CLOSE) for a, b in pairwise(values)):
        yield "points: the energy falls over time"
    if values and values[-1] > energy_kwh * (1 + _CLOSE):
        yield f"points: the last energy {values[-1]} is above the total {energy_kwh}"

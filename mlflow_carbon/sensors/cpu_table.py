"""CodeCarbon's table of CPU design powers, read as a file.

The package is found but not imported: importing it costs half a second and 120 MB (decision 5).
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CpuTable", "match", "read_table", "table_record"]

_TABLE = "data/hardware/cpu_power.csv"
_CERTAIN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTable:
    """Design powers by CPU name.

    Attributes:
        origin: Package, version and file, for people.
        tdp_w: Thermal design power of one package in W, by name; None where the table has no number (3.3.2
            has four such rows, which make CodeCarbon itself fail).
    """

    origin: str
    tdp_w: Mapping[str, float | None]


def read_table(package: str = "codecarbon") -> CpuTable | None:
    """The table of an installed package; None where there is none."""
    path = _find(package)
    if path is None:
        return None
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        columns = next(rows)
        # A row with more or fewer cells is one CPU less, not the end of the table.
        tdp_w = {row[0]: _watts(row[1]) for row in rows if len(row) == len(columns)}
    return CpuTable(origin=f"{package} {_version(package)} {path.name}", tdp_w=tdp_w)


def match(model: str, names: Sequence[str]) -> str | None:
    """The one name that fits a brand string; None if none or several do.

    The rule of `codecarbon/core/cpu.py:TDP._get_matching_cpu`: equal but for case, first as given and then
    without the marks of the vendor and the clock; else the only name whose words are all in the brand
    string, or the other way round.
    """
    from rapidfuzz import fuzz, process, utils

    bare = _bare(model)
    for spelling in (model, bare):
        same = process.extractOne(
            spelling, names, processor=str.lower, scorer=fuzz.ratio, score_cutoff=_CERTAIN
        )
        if same:
            return str(same[0])
    near = process.extract(
        bare, names, processor=utils.default_process, scorer=fuzz.token_set_ratio, score_cutoff=_CERTAIN
    )
    return str(near[0][0]) if len(near) == 1 else None


def table_record(package: str = "codecarbon") -> dict[str, Any]:
    """Version of the package and SHA-256 of the table used, for the provenance of a run."""
    path = _find(package)
    if path is None:
        return {"package": package, "version": None, "sha256": {}}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"package": package, "version": _version(package), "sha256": {_TABLE: digest}}


def _find(package: str) -> Path | None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / _TABLE
    return path if path.is_file() else None


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _watts(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _bare(model: str) -> str:
    model = model.replace("(R)", "")
    clock = model.find(" CPU @ ")
    if clock > 0:
        model = model[:clock]
    return re.sub(r" @\s*\d+\.\d+GHz", "", model.replace(" CPU", ""))

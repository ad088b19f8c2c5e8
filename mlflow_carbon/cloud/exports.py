"""From a file to lines: which export it is, and everything that could make a sum of it wrong."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from mlflow_carbon.cloud import aws, azure, gcp
from mlflow_carbon.cloud.contract import month_of
from mlflow_carbon.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlflow_carbon.cloud.contract import Line, Shape

__all__ = ["EXPORTS", "Export", "lines_of", "read"]

EXPORTS: tuple[Shape, ...] = (*aws.SHAPES, *gcp.SHAPES, *azure.SHAPES)
"""Every kind of file that is understood."""

_TOTALS = frozenset({"total", "totals", "grand total", "sum"})
_LIKELY_RATIO = 0.5  # with less of its columns a file is not called a bad export of that kind
_REFRESHED = "last_refresh_timestamp"
_MONTH_IN_NAME = re.compile(r"(?<![A-Za-z])([A-Z][a-z]{2})[-_ ]?(20\d\d)|(20\d\d)-(\d\d)(?!\d)")
_FOREIGN = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a ZIP archive",
    b"<": "HTML",
    b"{": "JSON",
    b"[": "JSON",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file as lines.

    Attributes:
        shape: Which export it is.
        lines: Its emissions.
        notes: What was left out, and why.
    """

    shape: Shape
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


def read(path: Path, *, month: str = "") -> Export:
    """The export in a CSV file, plain or gzip.

    Args:
        path: The file.
        month: Month such as `2025-04`, for exports that name it nowhere; empty: that in the file's name.

    Raises:
        ExportError: If it cannot be read, is no export that is known, or holds what cannot be counted.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ExportError(f"{path}: cannot be read: {error}") from error
    try:
        return lines_of(content, month=month or _month_in(path.name))
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error


def lines_of(content: bytes, *, month: str = "") -> Export:
    """The export in the bytes of a CSV file; see `read`."""
    text = _text(content)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = _header(next(rows, []), text)
        shape = _shape(header)
        if shape.needs_month and not month:
            raise ExportError(f"{shape.name} does not say of which month it is: give --month, as in 2025-04")
        lines, totals = _lines(rows, header, shape, month_of(month, "--month") if month else "")
    except csv.Error as error:
        raise ExportError(f"line {rows.line_num}: expected CSV, got {error}") from error
    if not lines:
        raise ExportError("expected rows of emissions below the header, got none; was the export complete?")
    kept, notes = _newest_models(lines)
    if totals:
        notes = (*notes, f"{totals} row(s) of totals left out: they are sums of the others")
    return Export(shape=shape, lines=kept, notes=notes)


def _text(content: bytes) -> str:
    start = content.lstrip()[:4]
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise ExportError(f"expected CSV, got {what}; export it as CSV, and unpack an archive first")
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExportError(f"expected UTF-8 text, got byte {error.start}: save it as CSV UTF-8") from error
    if not text.strip():
        raise ExportError("expected a header and rows, got an empty file")
    if "\0" in text:
        raise ExportError("expected text, got zero bytes: the file is damaged or no CSV")
    return text


def _header(cells: Sequence[str], text: str) -> list[str]:
    if len(cells) <= 1:
        first = text.splitlines()[0]
        other = next((name for sign, name in ((";", "semicolons"), ("\t", "tabs")) if sign in first), "")
        if other:
            raise ExportError(f"expected commas between columns, got {other}; save it as comma-separated CSV")
    header = [re.sub(r"[. ]", "_", cell.strip().lower()) for cell in cells]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ExportError(f"expected each column once, got several of {', '.join(twice)}")
    return header


def _shape(header: Sequence[str]) -> Shape:
    there = set(header)
    for shape in EXPORTS:
        if there.issuperset(shape.required) and there.intersection(shape.figures):
            return shape
    nearest = max(EXPORTS, key=lambda shape: _present_ratio(shape, there))
    if _present_ratio(nearest, there) < _LIKELY_RATIO:
        known = "; ".join(f"{s.name} ({', '.join((*s.required, s.figures[0]))})" for s in EXPORTS)
        shown = ", ".join(header)[:200]
        raise ExportError(f"expected the header of a carbon export, got {shown!r}; known are: {known}")
    missing = [name for name in nearest.required if name not in there]
    if not there.intersection(nearest.figures):
        missing.append(" or ".join(nearest.figures))
    named = ", ".join(_with_near(name, header) for name in missing)
    raise ExportError(f"expected the columns of {nearest.name}: missing {named}")


def _present_ratio(shape: Shape, there: set[str]) -> float:
    """Share of what a shape needs that is there: its columns and any one figure."""
    found = len(there.intersection(shape.required)) + bool(there.intersection(shape.figures))
    return found / (len(shape.required) + 1)


def _with_near(missing: str, header: Sequence[str]) -> str:
    near = get_close_matches(missing.partition(" or ")[0], header, n=1)
    return f"{missing} (is it {near[0]}?)" if near else missing


def _lines(
    rows: Iterator[list[str]], header: Sequence[str], shape: Shape, month: str
) -> tuple[list[Line], int]:
    """All lines, and how many rows of totals were left out."""
    lines: list[Line] = []
    totals, seen = 0, dict[tuple[str, ...], int]()
    keys = [n for n, name in enumerate(header) if name not in {*shape.figures, _REFRESHED}]
    for number, cells in enumerate(rows, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ExportError(
                f"row {number}: expected {len(header)} cells, got {len(cells)}; "
                "a decimal comma also makes one more"
            )
        if any(cell.strip().lower() in _TOTALS for cell in cells):
            totals += 1
            continue
        key = tuple(cells[n].strip() for n in keys)
        if key in seen:
            raise ExportError(
                f"row {number}: expected each place once, got that of row {seen[key]} again; it would count "
                "twice: remove what was delivered twice, or export the columns that tell them apart"
            )
        seen[key] = number
        try:
            lines += shape.parse(dict(zip(header, cells, strict=True)), month)
        except ExportError as error:
            raise ExportError(f"row {number}: {error}") from error
    return lines, totals


def _newest_models(lines: Sequence[Line]) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """Of each month the newest method only: after a change, months come by the old and by the new one."""
    newest: dict[str, str] = {}
    for line in lines:
        newest[line.month] = max(newest.get(line.month, line.model), line.model, key=_version)
    kept = tuple(line for line in lines if line.model == newest[line.month])
    left = sorted({(x.month, x.model) for x in lines if x.model != newest[x.month]})
    return kept, tuple(f"{m}: method {old} left out, {newest[m]} counts" for m, old in left)


def _version(model: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", model)]


def _month_in(name: str) -> str:
    found = _MONTH_IN_NAME.search(name)
    if not found:
        return ""
    try:
        return month_of(
            f"{found[1]} {found[2]}" if found[1] else f"{found[3]}-{found[4]}", "name of the file"
        )
    except ExportError:
        return ""

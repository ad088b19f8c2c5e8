"""What all exports have in common: a line of emissions, the shape of a file, numbers and months as text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["KG_PER_UNIT", "LOCATION", "MARKET", "TOTAL", "Line", "Shape", "month_of", "number"]

LOCATION, MARKET = "location", "market"
TOTAL = "total"

KG_PER_UNIT = {"mtco2e": 1000.0, "tco2e": 1000.0, "kgco2e": 1.0, "gco2e": 0.001}
"""Units of exports, in lower case. The MT of MTCO2e is a metric ton."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NONE = frozenset({"", "null", "none", "n/a"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?[\d.' ]*\d,\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Emissions that a provider has allotted to a customer.

    Attributes:
        provider: `aws`, `gcp` or `azure`.
        month: Month of use, as in `2025-04`.
        region: Region of the cloud; empty where the export does not tell.
        service: The provider's service; empty where the export does not tell.
        account: Account, project or subscription.
        scope: `1`, `2`, `3` or `total`, of the provider's own inventory (GHG Protocol).
        method: `location` or `market`, where it matters; else empty.
        kgco2e: Emissions in kg of CO2 equivalents.
        model: Version of the provider's method, where it tells one.
    """

    provider: str
    month: str
    region: str
    service: str
    account: str
    scope: str
    method: str
    kgco2e: float
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of file. Names of columns are in lower case, with `_` for dots and blanks.

    Attributes:
        provider: Whose it is.
        name: What it is called there.
        required: Columns that must be there.
        figures: Columns of emissions, of which one must be there.
        needs_month: Whether the month stands in no column, only in the file's name.
        parse: Lines of a row, for a month where `needs_month`; raises ExportError without line or file.
    """

    provider: str
    name: str
    required: tuple[str, ...]
    figures: tuple[str, ...]
    parse: Callable[[Mapping[str, str], str], Iterator[Line]]
    needs_month: bool = False


def number(row: Mapping[str, str], column: str) -> float | None:
    """The number in a cell, at least 0; None where it is empty.

    Raises:
        ExportError: If it is text, negative or has a decimal comma.
    """
    text = row.get(column, "").strip()
    if text.lower() in _NONE:
        return None
    if _COMMA.fullmatch(text):
        raise ExportError(
            f"{column}: expected a number with a decimal point, got {text!r}; "
            "export it in English number format"
        )
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ExportError(f"{column}: expected a number, got {text[:40]!r}")
    if value < 0:
        raise ExportError(
            f"{column}: expected at least 0, got {text}; leave credits and offsets out of the export"
        )
    return value


def month_of(text: str, column: str) -> str:
    """A month as `2025-04`, of a date, a time or words such as `Apr 2025`.

    Raises:
        ExportError: If it is none.
    """
    found = re.fullmatch(r"(\d{4})-(\d{2})(-\d{2}([ T].*)?)?", text.strip())
    words = re.fullmatch(r"([A-Za-z]{3,9})[ -](\d{4})", text.strip())
    year, month = (0, 0)
    if found:
        year, month = int(found[1]), int(found[2])
    elif words and words[1][:3].lower() in _MONTHS:
        year, month = int(words[2]), _MONTHS.index(words[1][:3].lower()) + 1
    if not 1 <= month <= len(_MONTHS):
        raise ExportError(f"{column}: expected a month such as 2025-04 or Apr 2025, got {text[:40]!r}")
    return f"{year:04}-{month:02}"

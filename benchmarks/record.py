"""What a benchmark leaves behind: figures with their spread, the machine, a page and its raw JSON.

Knows the standard library only. `page` is pure, so that a test can hold each page against its JSON.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGES = Path(__file__).parents[1] / "docs/benchmarks"

_PACKAGES = ("mlflow", "codecarbon", "sqlalchemy")
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the page: its title, a sentence before it, its head and its rows."""

    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure and the limit it has to keep.

    Attributes:
        what: What was measured.
        limit: The highest value that meets the goal.
        unit: Unit of both, for people.
        values: The repeats; their median is what counts.
    """

    what: str
    limit: float
    unit: str
    values: Sequence[float]

    def row(self) -> tuple[str, str, str, str]:
        """What, goal, figure and verdict, as `GOAL_HEAD` names them."""
        verdict = "met" if median(self.values) <= self.limit else "**missed**"
        return self.what, f"<= {self.limit:g} {self.unit}", spread(self.values, self.unit), verdict


GOAL_HEAD = ("What", "Goal", "Median (range), repeats", "Verdict")


def spread(values: Sequence[float], unit: str) -> str:
    """Median, range and number of repeats, for example `3.1 ms (2.9 to 4.0), n = 15`."""
    return f"{three(median(values))} {unit} ({three(min(values))} to {three(max(values))}), n = {len(values)}"


def three(value: float) -> str:
    """About three significant digits, never in scientific notation."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Interval of the median from order statistics, and its confidence; it assumes no distribution.

    The number of values below the median is binomial (n, 1/2), so the k-th smallest and the k-th largest
    value hold it with probability 1 - 2 P(X < k); k is the largest that keeps 95 %.
    Seven values: the smallest and the largest, 98.4 %.
    """
    ordered, n = sorted(values), len(values)
    below, k = 0.0, 0
    while k < n // 2 and 1 - 2 * (below + math.comb(n, k) / 2**n) >= _CONFIDENCE:
        below += math.comb(n, k) / 2**n
        k += 1
    k = max(k, 1)
    confidence = 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2**n
    return ordered[k - 1], ordered[n - k], confidence


def machine() -> dict[str, str]:
    """What the figures were got on; no name, no path."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)", text, re.MULTILINE)
    virtual = " (virtual machine)" if re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE) else ""
    return {
        "CPU": (model[1] if model else platform.machine()) + virtual,
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def load() -> str:
    """Load averages of the last 1, 5 and 15 minutes: what else the machine was doing."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything one benchmark has to say.

    Attributes:
        title: Heading of the page.
        text: What is measured and how.
        command: What was typed.
        load: Load averages before and after.
        tables: The figures.
        notes: What a reader must know beside them.
        raw: Every single repeat.
    """

    title: str
    text: str
    command: str
    load: tuple[str, str]
    tables: Sequence[Table]
    notes: Sequence[str]
    raw: Mapping[str, Any]


def write(name: str, report: Report) -> None:
    """Print the page and write it with its JSON."""
    document = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "machine": machine(), **asdict(report)}
    document = json.loads(json.dumps(document))
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    text = page(name, document)
    (PAGES / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def page(name: str, document: Mapping[str, Any]) -> str:
    """The Markdown page of a document."""
    before, after = document["load"]
    facts = "; ".join(f"{key} {value}" for key, value in document["machine"].items())
    origin = (
        f"`{document['command']}`, {document['date']}. {facts}. Load averages (1, 5, 15 min) before: {before}; "
        f"after: {after}. Every repeat is in [{name}.json]({name}.json)."
    )
    lines = [
        f"# {document['title']}",
        "",
        f"<!-- Made by benchmarks/{name}.py; do not edit. -->",
        "",
        document["text"],
        "",
        origin,
    ]
    for table in document["tables"]:
        lines += ["", f"## {table['title']}", ""]
        lines += [table["text"], ""] if table["text"] else []
        lines += [_row(table["head"]), _row(["---"] * len(table["head"])), *map(_row, table["rows"])]
    if document["notes"]:
        lines += ["", "## Notes", "", *(f"- {note}" for note in document["notes"])]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""The documentation says what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_generated_pages_are_up_to_date() -> None:
    """`make docs` would change nothing."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_decision_is_listed() -> None:
    """The index of the documentation has each decision but the template."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    records = sorted(p.name for p in (ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [name for name in records[1:] if f"(decisions/{name})" not in index] == []

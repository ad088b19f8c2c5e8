"""Recorded shapes of grid services: `tests/data/grid/*.json` hold body, status and source."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "grid"


def body(name: str) -> bytes:
    """The bytes a service would have sent."""
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["body"]
    return (content if isinstance(content, str) else json.dumps(content)).encode()

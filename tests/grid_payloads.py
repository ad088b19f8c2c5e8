"""Shapes of grid services: `tests/data/grid/*.json` hold body, status, source and what was asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow_carbon.grid.contract import HISTORY, Request

FOLDER = Path(__file__).parent / "data" / "grid"


def payload(name: str) -> dict[str, Any]:
    """The whole file."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


def body(name: str) -> bytes:
    """The bytes a service would have sent."""
    content = payload(name)["body"]
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def request(name: str) -> Request:
    """What the payload answers; a question about Great Britain where the file does not say."""
    asked = payload(name).get("request") or {"what": HISTORY, "place": "GB"}
    return Request(url=f"https://example.invalid/{name}", **asked)

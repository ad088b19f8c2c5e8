"""What all readers of answers share: JSON that may be none, times, and figures that can be believed."""

from __future__ import annotations

import json
import math
from typing import Any

from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.core.times import moment
from mlflow_carbon.errors import GridError

__all__ = ["MAX_GCO2E_PER_KWH", "believable", "decoded", "epoch", "ranged", "said"]

MAX_GCO2E_PER_KWH = 2000
"""No grid is above this: a mix of nothing but old lignite plants emits about 1300."""


def decoded(body: bytes, name: str) -> Any:
    """The JSON of an answer.

    Raises:
        GridError: If it is empty, no JSON, or the service's own word for an error.
    """
    if not body.strip():
        raise GridError(f"{name}: expected JSON, got an empty body")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        start = body.lstrip()[:40].decode("utf-8", "replace")
        raise GridError(f"{name}: expected JSON, got {start!r}") from None
    if isinstance(content, dict) and "error" in content:
        raise GridError(f"{name}: the service says {said(content)!r}")
    return content


def said(content: Any) -> str:
    """The service's words in an error object, under `error` or `message`; empty where there are none."""
    if not isinstance(content, dict):
        return ""
    words = content.get("error") or content.get("message") or content.get("detail") or ""
    if isinstance(words, dict):
        words = words.get("message") or words.get("code") or ""
    return " ".join(str(words).split())[:200]


def believable(value: Any) -> float | None:
    """A figure that a grid can have; zero means missing, since somewhere something always runs."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if 0 < value <= MAX_GCO2E_PER_KWH else None


def epoch(text: Any) -> int | None:
    """Whole seconds since the epoch of an ISO 8601 time that names its zone; None for anything else."""
    found = moment(text) if isinstance(text, str) else None
    return None if found is None else int(found)


def ranged(start_s: int, slot_s: int, value: float, error: float, kind: str) -> IntensitySlot:
    """A slot of a value with a symmetric error in gCO2e/kWh, cut at zero."""
    return IntensitySlot(
        start_s=start_s,
        end_s=start_s + slot_s,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=max(0.0, value - error),
        high_gco2e_per_kwh=value + error,
        kind=kind,
    )

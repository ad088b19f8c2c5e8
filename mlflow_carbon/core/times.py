"""Times as people and services write them: always UTC, or with their offset."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["clock", "minute", "moment", "second"]


def second(t_s: float) -> str:
    """Seconds since the epoch as `2026-03-02T12:01:05Z`."""
    return datetime.fromtimestamp(t_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def minute(t_s: float) -> str:
    """Seconds since the epoch as `2026-03-02T12:01Z`."""
    return datetime.fromtimestamp(t_s, UTC).strftime("%Y-%m-%dT%H:%MZ")


def clock(t_s: float) -> str:
    """The time of day, as `12:01`."""
    return datetime.fromtimestamp(t_s, UTC).strftime("%H:%M")


def moment(text: str) -> float | None:
    """Seconds since the epoch of an ISO 8601 time that names its zone or offset; None for anything else."""
    try:
        found = datetime.fromisoformat(text.strip())
        return None if found.tzinfo is None else found.timestamp()
    except (ValueError, OverflowError):
        return None

"""Every error this package raises on purpose.

CarbonError
├── SettingsError      a setting, argument or configuration file is wrong
│   └── ZoneError      a grid zone that nobody knows
├── GridError          an intensity provider answered badly or not at all
├── JournalError       a journal cannot be read
├── SubmissionError    a planned run cannot be started, or has failed
└── StoreError         the tracking server could not be read or written
    └── RefusedError   it answered that it will not take this, now or later

Each message says what was expected, what was got and what to do.
"""

from __future__ import annotations

__all__ = [
    "CarbonError",
    "ExportError",
    "GridError",
    "JournalError",
    "RefusedError",
    "SettingsError",
    "StoreError",
    "SubmissionError",
    "ZoneError",
]


class CarbonError(Exception):
    """Root of all errors of this package."""


class SettingsError(CarbonError, ValueError):
    """A setting is unknown or has a value that cannot be used."""


class ZoneError(SettingsError):
    """A grid zone is unknown; the message offers near names."""


class GridError(CarbonError):
    """A grid provider could not deliver an intensity.

    Attributes:
        status: HTTP status of the answer; 0 where there was none or it was a good one.
        retry_after_s: How long the service asks to be left alone, in seconds; 0 if it does not say.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def is_refusal(self) -> bool:
        """Whether the service works and will not answer this question, so that others may still be asked."""
        return 400 <= self.status < 500 and self.status not in {408, 429}  # noqa: PLR2004 - HTTP's own numbers


class ExportError(CarbonError):
    """A file is no carbon export that is known, or holds what cannot be counted."""


class JournalError(CarbonError):
    """A journal is missing, foreign or damaged beyond its tail."""


class SubmissionError(CarbonError):
    """A planned run cannot be started, or has failed."""


class StoreError(CarbonError):
    """The tracking store could not be read or written."""


class RefusedError(StoreError):
    """The tracking store will not take this: waiting does not help, and what comes after it may pass."""

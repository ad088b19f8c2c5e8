"""Every error this package raises on purpose.

CarbonError
├── SettingsError      a setting, argument or configuration file is wrong
│   └── ZoneError      a grid zone that nobody knows
├── GridError          an intensity provider answered badly or not at all
├── JournalError       a journal cannot be read
└── StoreError         the tracking server could not be read or written
    └── RefusedError   it answered that it will not take this, now or later

Each message says what was expected, what was got and what to do.
"""

from __future__ import annotations

__all__ = [
    "CarbonError",
    "GridError",
    "JournalError",
    "RefusedError",
    "SettingsError",
    "StoreError",
    "ZoneError",
]


class CarbonError(Exception):
    """Root of all errors of this package."""


class SettingsError(CarbonError, ValueError):
    """A setting is unknown or has a value that cannot be used."""


class ZoneError(SettingsError):
    """A grid zone is unknown; the message offers near names."""


class GridError(CarbonError):
    """A grid provider could not deliver an intensity."""


class JournalError(CarbonError):
    """A journal is missing, foreign or damaged beyond its tail."""


class StoreError(CarbonError):
    """The tracking store could not be read or written."""


class RefusedError(StoreError):
    """The tracking store will not take this: waiting does not help, and what comes after it may pass."""

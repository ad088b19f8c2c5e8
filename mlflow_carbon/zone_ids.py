"""Whether a grid zone id is known, at the cost of reading two small files.

A run that names its zone asks this in the caller's thread (0.3 ms of CPU), where `grid.zones` with its tables
and the offer of near names would cost tens of milliseconds. Both read the same tables.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["TABLES", "WORLD", "is_known", "normal"]

WORLD = "WORLD"
"""Id of the zone of a machine whose place is not known."""

TABLES = Path(__file__).parent / "grid/tables"
_WITH_IDS = ("countries.csv", "subzones.csv")


def normal(zone_id: str) -> str:
    """An id as the tables write it: `us_cal_ciso` is `US-CAL-CISO`."""
    return zone_id.strip().upper().replace("_", "-")


def is_known(zone_id: str) -> bool:
    """Whether this is an id, in any case. Other names of a zone are none: `grid.zones.check` knows those."""
    wanted = normal(zone_id)
    if wanted == WORLD:
        return True
    # The id is the first field of a row, never quoted, and holds no comma.
    is_plain = wanted.isascii() and wanted.replace("-", "").isalnum()
    return is_plain and any(
        f"\n{wanted}," in (TABLES / name).read_text(encoding="utf-8") for name in _WITH_IDS
    )

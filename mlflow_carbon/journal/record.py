"""Records: one a line, `crc32 json`, where the JSON object holds `seq` (counting up from 0) and `kind`."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Contents", "decode", "encode", "parse", "stream"]

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a journal holds.

    Attributes:
        records: The good records in order, as dicts.
        torn: Whether the last line was cut off (a kill in mid-write; harmless).
        damaged: Line numbers, from 1, of records whose checksum or number is wrong.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    torn: bool = False
    damaged: list[int] = field(default_factory=list)


def encode(record: dict[str, Any]) -> bytes:
    """A record as a line.

    Raises:
        TypeError, ValueError: If it is no JSON.
    """
    body = _ENCODER.encode(record).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


def parse(line: bytes) -> dict[str, Any] | None:
    """The record of a line without its end; None if it is damaged."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        record = json.loads(body)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def stream(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The good records of lines, one by one: a long run's do not fit beside its training."""
    return (record for record in map(parse, (line.rstrip(b"\n") for line in lines)) if record is not None)


def decode(lines: list[bytes], *, torn: bool) -> Contents:
    """All records of lines, and what is wrong with them.

    Args:
        lines: In order.
        torn: Whether the last one was cut off.
    """
    records: list[dict[str, Any]] = []
    damaged: list[int] = []
    expected = 0
    for number, line in enumerate(lines, start=1):
        if torn and number == len(lines):
            break
        record = parse(line.rstrip(b"\n"))
        if record is None:
            damaged.append(number)
            expected += 1
            continue
        seq = record.get("seq")
        if seq != expected:
            damaged.append(number)
        expected = 1 + (seq if isinstance(seq, int) else expected)
        records.append(record)
    return Contents(records=records, torn=torn, damaged=damaged)

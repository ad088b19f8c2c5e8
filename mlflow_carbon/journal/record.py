"""Records: one a line, `crc32 json`, where the JSON object holds `seq` (counting up from 0) and `kind`."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Contents", "encode", "parse", "stream"]

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


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


class Contents:
    """What a journal holds, read anew each time: a week of it does not fit beside a training.

    Args:
        lines: Opens its lines, with their ends.
    """

    def __init__(self, lines: Callable[[], Iterable[bytes]]) -> None:
        self._lines = lines
        self.torn = False
        """Whether the last line was cut off (a kill in mid-write; harmless), once all was gone through."""
        self.damaged: list[int] = []
        """Numbers, from 1, of the lines whose checksum or number was wrong, once all was gone through."""

    def records(self) -> Iterator[dict[str, Any]]:
        """The good records in order, one by one."""
        self.torn, self.damaged = False, []
        expected = 0
        for number, line in enumerate(self._lines(), start=1):
            if not line.endswith(b"\n"):
                self.torn = True
                return
            record = parse(line[:-1])
            if record is None:
                self.damaged.append(number)
                expected += 1
                continue
            seq = record.get("seq")
            if seq != expected:
                self.damaged.append(number)
            expected = 1 + (seq if isinstance(seq, int) else expected)
            yield record

"""The artifact with a segment's readings, from its journal."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from mlflow_carbon._version import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["packed_samples"]

_GZIP = 31  # zlib's word for the largest window and gzip's frame, without a time


def packed_samples(records: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """`samples.jsonl.gz` piece by piece: the journal's readings in the columns of the sample schema.

    The first line holds schema, anchor and channels; every other line is a reading or `facts` beside it.
    The same readings give the same bytes.
    """
    packer = zlib.compressobj(wbits=_GZIP)
    for row in _sample_rows(records):
        piece = packer.compress(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        if piece:
            yield piece
    yield packer.flush()


def _sample_rows(records: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    head: dict[str, Any] = {"schema": SCHEMA}
    kinds: dict[str, str] = {}
    for record in records:
        if record["kind"] == "header":
            head |= {k: record[k] for k in ("run_id", "start_mono_ns", "start_wall_ns", "period_s")}
        elif record["kind"] == "channels":
            kinds = {c["id"]: c["kind"] for c in record["channels"]}
            yield head | {"channels": record["channels"]}
        elif record["kind"] == "tick":
            for channel, t_ns, read_ns, energy_uj, power_mw, util_ppm, error in record["s"]:
                yield {
                    "seq": record["q"],
                    "t_mono_ns": t_ns,
                    "t_wall_ns": record["w"] + t_ns - record["t"],
                    "t_read_ns": read_ns,
                    "channel": channel,
                    "kind": kinds.get(channel, ""),
                    "energy_uj": energy_uj,
                    "power_mw": power_mw,
                    "util_ppm": util_ppm,
                    "error": error,
                }
            if "f" in record:
                yield {
                    "seq": record["q"],
                    "t_mono_ns": record["t"],
                    "t_wall_ns": record["w"],
                    "facts": record["f"],
                }

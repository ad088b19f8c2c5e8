"""An external meter at the wall socket: a CSV file that it appends to, or an HTTP address that gives JSON.

Named by the setting `wall_meter`. The file has a header with `time` and one of `power_w` and `energy_wh`;
`time` is ISO 8601 (UTC where it names no zone) or seconds since 1970. The answer over HTTP is an object with
`power_w`; a fragment names another field, in watts: `http://meter/rpc/Switch.GetStatus?id=0#apower`.
0 W is a value here: a laptop may run on its battery, and the meter is no part of the sum.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality
from mlflow_carbon.sensors.background import Background, Pace, Reading, in_thread
from mlflow_carbon.sensors.contract import Absence, Found, Values, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_carbon.sensors.contract import Clock, Site

__all__ = ["CsvMeter", "HttpMeter", "fetch", "probe"]

_PACE = Pace(every_s=1.0, timeout_s=2.0)
_LIMIT = 65_536  # bytes of one answer
_MAX_W = 1_000_000.0
_AHEAD_S = 5.0  # A meter whose clock is further ahead than this is not believed.
_UJ_PER_WH = 3_600_000_000


def probe(
    site: Site,
    *,
    get: Callable[[str], bytes] | None = None,
    start: Callable[[Callable[[], None], float], Callable[[], None]] = in_thread,
) -> Found:
    """The meter of the setting `wall_meter`; nothing where it is not set. A file must have its header."""
    place = site.settings.wall_meter
    if place is None:
        return Found()
    meter: CsvMeter | HttpMeter
    if place.startswith(("http://", "https://")):
        address, _, field = place.partition("#")
        meter = HttpMeter(address, field, get or fetch)
        kind = Kind.MEAN
    else:
        try:
            meter = CsvMeter(Path(place).expanduser())
        except (OSError, ValueError) as error:
            return Found(absences=(_absent(error),))
        kind = meter.kind
    return Found(sensors=(Background((_channel(meter, kind),), meter.ask, pace=_PACE, start=start),))


def _channel(meter: CsvMeter | HttpMeter, kind: Kind) -> Channel:
    return Channel(
        id="wall:meter",
        sensor="wall",
        device="external meter",
        component=Component.NODE,
        kind=kind,
        basis=Basis.MEASURED,
        quality=Quality.L4,
        low_ratio=0.97,
        high_ratio=1.03,
        power_max_w=_MAX_W,
        source=meter.source,
    )


def _absent(error: Exception) -> Absence:
    told = error.strerror if isinstance(error, OSError) and error.strerror else explain(error)
    return Absence(
        sensor="wall",
        reason=f"the file of wall_meter cannot be read: {told}",
        remedy="start the meter's logger first; the file needs a header `time,power_w` or `time,energy_wh`",
    )


class CsvMeter:
    """A file that grows: each reading takes the rows since the one before, each row at its own time.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it has no such header.
    """

    def __init__(self, path: Path) -> None:
        import csv

        self._path = path
        with path.open(encoding="utf-8") as file:
            columns = [name.strip().lower() for name in next(csv.reader([file.readline()]), [])]
            self._offset = file.tell()
        if "time" not in columns or not {"power_w", "energy_wh"} & set(columns):
            raise ValueError(
                f"expected a header with time and power_w or energy_wh, got {','.join(columns)!r}"
            )
        self._columns = columns
        self._is_first = True
        self.kind = Kind.COUNTER if "energy_wh" in columns else Kind.MEAN
        self.source = f"CSV file, column {'energy_wh' if self.kind is Kind.COUNTER else 'power_w'}"

    def ask(self, clock: Clock) -> Sequence[Reading]:
        """The new rows; of those that were there before, only the last."""
        import csv

        if self._path.stat().st_size < self._offset:
            raise ValueError("expected a file that only grows, it became shorter")
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text, newline, _ = file.read().rpartition(b"\n")  # a row that is still being written waits
        self._offset += len(text) + len(newline)
        rows = [row for row in csv.reader(text.decode("utf-8").splitlines()) if row]
        if self._is_first:
            rows, self._is_first = rows[-1:], False
        return [self._reading(row, clock) for row in rows]

    def _reading(self, row: list[str], clock: Clock) -> Reading:
        fields = dict(zip(self._columns, row, strict=False))
        mono_ns, wall_ns = clock.monotonic_ns(), clock.wall_ns()
        t_ns = _wall_ns(fields.get("time", ""))
        if t_ns - wall_ns > _AHEAD_S * 1e9:
            raise ValueError(
                f"expected a row of the past, got one {(t_ns - wall_ns) / 1e9:.0f} s ahead: set the clocks"
            )
        return Reading(0, t_ns - wall_ns + mono_ns, _values(fields))


class HttpMeter:
    """An address that tells the present power."""

    def __init__(self, address: str, field: str, get: Callable[[str], bytes]) -> None:
        self._address = address
        self._field = field
        self._get = get
        self.source = f"HTTP, field {field or 'power_w'}, every {_PACE.every_s:g} s"

    def ask(self, clock: Clock) -> Sequence[Reading]:
        """One answer, at the middle of the time it took."""
        import json

        start_ns = clock.monotonic_ns()
        answer = json.loads(self._get(self._address))
        t_ns = (start_ns + clock.monotonic_ns()) // 2
        value: Any = answer
        for name in (self._field or "power_w").split("."):
            if not isinstance(value, dict) or name not in value:
                raise ValueError(f"expected the field {self._field or 'power_w'} in the answer, found none")
            value = value[name]
        return [Reading(0, t_ns, _values({"power_w": value}))]


def fetch(address: str) -> bytes:
    """The body of an answer, at most 64 KiB.

    Raises:
        OSError: If there is none within 2 s.
    """
    from urllib.request import urlopen

    with urlopen(address, timeout=_PACE.timeout_s) as answer:  # noqa: S310 - probe() lets http and https in only
        return bytes(answer.read(_LIMIT))


def _values(fields: Mapping[str, Any]) -> Values:
    if "energy_wh" in fields:
        return Values(energy_uj=round(_number("energy_wh", fields["energy_wh"]) * _UJ_PER_WH))
    return Values(power_mw=round(1000 * _number("power_w", fields.get("power_w"))))


def _number(name: str, raw: Any) -> float:
    try:
        value = float(raw)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"expected {name} to be a number of at least 0, got {str(raw)[:40]!r}")
    return value


def _wall_ns(text: str) -> int:
    """UTC nanoseconds of a time in ISO 8601 or in seconds since 1970."""
    from datetime import UTC, datetime

    try:
        return round(float(text) * 1e9)
    except (ValueError, OverflowError):  # OverflowError: infinity
        moment = datetime.fromisoformat(text.strip())
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e9)

"""The machine's power supplies by its board controller: `ipmitool dcmi power reading`, every 10 s.

A slow average of the whole machine: a channel of the node, never added to the parts. The command runs in a
thread of its own and takes up to seconds. The host's own controller only: no password is asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Basis, Channel, Component, Kind, Quality
from mlflow_carbon.sensors.background import Background, Pace, Reading, in_thread
from mlflow_carbon.sensors.contract import Absence, Found, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.sensors.contract import Clock, Site

__all__ = ["parse", "probe", "run_ipmitool"]

_DEVICES = ("dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0")
_PACE = Pace(every_s=10.0, timeout_s=10.0, tries=3)
_COMMAND = ("ipmitool", "dcmi", "power", "reading")
_WATTS = re.compile(r"Instantaneous power reading:?\s*:?\s*(\d+)\s*Watts")

_CHANNEL = Channel(
    id="ipmi:dcmi",
    sensor="ipmi",
    device="board controller (BMC)",
    component=Component.NODE,
    kind=Kind.MEAN,
    basis=Basis.MEASURED,
    quality=Quality.L1,
    low_ratio=0.9,
    high_ratio=1.1,
    power_max_w=20_000.0,
    source="ipmitool dcmi power reading, instantaneous, every 10 s",
)


def probe(
    site: Site,
    *,
    run: Callable[[], str] | None = None,
    start: Callable[[Callable[[], None], float], Callable[[], None]] = in_thread,
) -> Found:
    """The board controller of this machine, if there is one; says nothing where there is none."""
    device = next((path for name in _DEVICES if (path := site.root / name).exists()), None)
    if device is None:
        return Found()
    from shutil import which

    if run is None and which(_COMMAND[0], path=site.env.get("PATH")) is None:
        return Found(
            absences=(
                _absent("there is a board controller but no ipmitool", "sudo apt-get install ipmitool"),
            )
        )
    try:
        device.open("rb").close()
    except OSError as error:
        return Found(
            absences=(_absent(f"{type(error).__name__}: {error.strerror}", f"sudo chmod a+rw {device}"),)
        )
    ask = run or run_ipmitool

    def reading(clock: Clock) -> list[Reading]:
        power_mw = parse(ask())
        return [Reading(0, clock.monotonic_ns(), Values(power_mw=power_mw))]

    return Found(sensors=(Background((_CHANNEL,), reading, pace=_PACE, start=start),))


def _absent(reason: str, remedy: str) -> Absence:
    return Absence(sensor="ipmi", reason=reason, remedy=remedy)


def run_ipmitool() -> str:
    """What the command prints.

    Raises:
        OSError: If it cannot be run.
        ValueError: If it fails or takes longer than 10 s.
    """
    import subprocess

    try:
        done = subprocess.run(
            _COMMAND,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PACE.timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"expected an answer of ipmitool within {_PACE.timeout_s:g} s, got none") from error
    if done.returncode != 0:
        raise ValueError(f"ipmitool ended with {done.returncode}: {done.stderr.strip()[:200]}")
    return done.stdout


def parse(text: str) -> int:
    """Milliwatts from what `ipmitool dcmi power reading` prints.

    Raises:
        ValueError: If there is no reading in it, or one of 0 W, which controllers without a sensor give.
    """
    found = _WATTS.search(text)
    watts = int(found.group(1)) if found else 0
    if watts == 0:
        raise ValueError("expected 'Instantaneous power reading: n Watts' above 0, found none")
    return watts * 1000

"""RAPL through perf events: the kernel's `power` PMU, where the powercap files are closed or hidden.

Needs CAP_PERFMON or `kernel.perf_event_paranoid` of 0 or less, since its events count whole packages
(kernel documentation, `perf-security`). The kernel undoes the wraps of the registers, so that these
counters have no range. Type, events, scale and CPUs are read from sysfs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from functools import partial
from typing import TYPE_CHECKING

from mlflow_carbon.core.series import Component
from mlflow_carbon.core.units import UJ_PER_J
from mlflow_carbon.sensors.rapl_meter import RaplMeter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["REMEDY", "open_event", "perf_meters"]

REMEDY = (
    "sudo sysctl kernel.perf_event_paranoid=0 (until the next boot), or run with the capability CAP_PERFMON "
    "(in a container: --cap-add PERFMON)"
)

_PMU = "sys/bus/event_source/devices/power"
_EVENTS = {Component.CPU: "energy-pkg", Component.DRAM: "energy-ram", Component.NODE: "energy-psys"}
_LABELS = {Component.CPU: "package-{}", Component.DRAM: "package-{}-dram", Component.NODE: "psys"}
_PERF_EVENT_OPEN = 298  # of x86-64: other CPUs have no RAPL
_CLOSE_ON_EXEC = 8  # PERF_FLAG_FD_CLOEXEC
_SIZE = 64  # PERF_ATTR_SIZE_VER0


class _Attributes(ctypes.Structure):
    """The first version of `struct perf_event_attr`."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 6),
    )


def open_event(pmu: int, config: int, cpu: int) -> int:
    """Open a counting event of one CPU, for all processes, and return its descriptor.

    Raises:
        OSError: If the kernel refuses; `PermissionError` without the capability.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise OSError(errno.ENOSYS, "expected Linux on x86-64 for perf events of RAPL")
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = _Attributes(type=pmu, size=_SIZE, config=config)
    everyone, no_group = ctypes.c_int(-1), ctypes.c_int(-1)
    descriptor = libc.syscall(
        ctypes.c_long(_PERF_EVENT_OPEN),
        ctypes.byref(attributes),
        everyone,
        ctypes.c_int(cpu),
        no_group,
        ctypes.c_ulong(_CLOSE_ON_EXEC),
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"perf_event_open: {os.strerror(number)}")
    return int(descriptor)


def perf_meters(
    root: Path, wanted: Component, opener: Callable[[int, int, int], int] = open_event
) -> list[RaplMeter]:
    """The counters of a component, one per package; none where the kernel has no such event.

    Raises:
        OSError: If the kernel refuses one; none is left open then.
        ValueError: If sysfs says something else than expected.
    """
    pmu, event = root / _PMU, _EVENTS[wanted]
    try:
        kind = int((pmu / "type").read_text(encoding="ascii"))
        config = _config((pmu / "events" / event).read_text(encoding="ascii"))
    except FileNotFoundError:
        return []
    from fractions import Fraction

    scale = Fraction((pmu / f"events/{event}.scale").read_text(encoding="ascii").strip()) * UJ_PER_J
    cpus = _cpus((pmu / "cpumask").read_text(encoding="ascii"))
    meters: list[RaplMeter] = []
    try:
        for package, cpu in enumerate(cpus[:1] if wanted is Component.NODE else cpus):
            descriptor = opener(kind, config, cpu)
            meters.append(
                RaplMeter(
                    label=_LABELS[wanted].format(package),
                    component=wanted,
                    descriptor=descriptor,
                    read_uj=partial(_read_uj, descriptor, scale.numerator, scale.denominator),
                    range_uj=None,
                    source=f"perf event power/{event}/ of CPU {cpu}",
                )
            )
    except OSError:
        for meter in meters:
            os.close(meter.descriptor)
        raise
    return meters


def _read_uj(descriptor: int, numerator: int, denominator: int) -> int:
    raw = os.read(descriptor, 8)
    if len(raw) != 8:  # noqa: PLR2004 - the kernel writes one 64-bit number
        raise ValueError(f"expected 8 bytes from the event, got {len(raw)}")
    return int.from_bytes(raw, sys.byteorder) * numerator // denominator


def _config(text: str) -> int:
    """The number of an event such as `event=0x02`."""
    name, _, number = text.strip().partition("=")
    if name != "event":
        raise ValueError(f"expected event=0x.. in sysfs, got {text.strip()!r}")
    return int(number, 16)


def _cpus(text: str) -> list[int]:
    """The CPUs of a list such as `0,28` or `0-1`."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus

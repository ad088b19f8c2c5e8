"""Facts about the machine from `proc` and `sys`: kernel, processor, memory.

Names of hosts and users are not here, see `privacy`. The kernel's command line is never read, since it
can hold secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.provenance.facts import text

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Cpu", "Host", "read"]

_BYTES_PER_KIB = 1024
_FIRST_CPU_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processors. What cannot be read is None.

    Attributes:
        model: Name of the model.
        sockets: Packages.
        cores: Physical cores of all packages.
        threads: Logical processors that are online.
        governor: Frequency governor of the first processor.
        is_turbo: Whether it may exceed its base frequency.
        is_smt: Whether several threads share a core.
        is_virtual: Whether a hypervisor shows itself.
    """

    model: str | None
    sockets: int | None
    cores: int | None
    threads: int | None
    governor: str | None
    is_turbo: bool | None
    is_smt: bool | None
    is_virtual: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine.

    Attributes:
        kernel: Release of the kernel.
        system: Name and version of the distribution.
        product: Maker and product as the firmware names it; on clouds the instance type.
        cpu: The processors.
        memory_bytes: Memory that the kernel sees.
        swap_bytes: Swap space.
    """

    kernel: str | None
    system: str | None
    product: str | None
    cpu: Cpu
    memory_bytes: int | None
    swap_bytes: int | None


def read(root: Path) -> Host:
    """Everything that a few small files tell."""
    memory = text(root / "proc/meminfo")
    dmi = root / "sys/class/dmi/id"
    return Host(
        kernel=text(root / "proc/sys/kernel/osrelease") or None,
        system=_system(text(root / "etc/os-release")),
        product=" ".join(filter(None, (text(dmi / "sys_vendor"), text(dmi / "product_name")))) or None,
        cpu=_cpu(root),
        memory_bytes=_kib(memory, "MemTotal"),
        swap_bytes=_kib(memory, "SwapTotal"),
    )


def _cpu(root: Path) -> Cpu:
    fields = _first_block(text(root / "proc/cpuinfo", limit=_FIRST_CPU_BYTES))
    cpus = root / "sys/devices/system/cpu"
    threads = _count(text(cpus / "online"))
    siblings, cores = _int(fields.get("siblings")), _int(fields.get("cpu cores"))
    # A shared or trimmed virtual machine can show fewer threads than its package claims to have.
    sockets = max(1, threads // siblings) if threads and siblings else None
    flags = fields.get("flags", "").split()
    return Cpu(
        model=_model(fields),
        sockets=sockets,
        cores=min(sockets * cores, threads) if sockets and cores and threads else None,
        threads=threads,
        governor=text(cpus / "cpu0/cpufreq/scaling_governor") or None,
        is_turbo=_turbo(cpus),
        is_smt=_flag(text(cpus / "smt/active")),
        is_virtual="hypervisor" in flags if flags else None,
    )


def _first_block(cpuinfo: str) -> dict[str, str]:
    block = cpuinfo.split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _model(fields: dict[str, str]) -> str | None:
    for key in ("model name", "Model", "cpu", "uarch"):
        if fields.get(key):
            return " ".join(fields[key].split())
    if "CPU part" in fields:  # Arm gives numbers only
        return f"Arm implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    return None


def _turbo(cpus: Path) -> bool | None:
    off = _flag(text(cpus / "intel_pstate/no_turbo"))
    return _flag(text(cpus / "cpufreq/boost")) if off is None else not off


def _flag(content: str) -> bool | None:
    return {"0": False, "1": True}.get(content)


def _int(content: str | None) -> int | None:
    return int(content) if content and content.isdecimal() else None


def _count(ranges: str) -> int | None:
    """How many numbers a list such as `0-3,8` holds."""
    total = 0
    for part in ranges.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            return None
        total += int(match[2] or match[1]) - int(match[1]) + 1
    return total


def _kib(meminfo: str, name: str) -> int | None:
    match = re.search(rf"^{name}:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) * _BYTES_PER_KIB if match else None


def _system(os_release: str) -> str | None:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', os_release, re.MULTILINE)
    return match[1].strip() if match else None

"""What `/proc/cpuinfo` says of the CPU. Reads nothing else and starts nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CpuInfo", "read_cpuinfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuInfo:
    """The CPU as the operating system sees it.

    Attributes:
        model: Brand string, empty where there is none (ARM).
        threads: Hardware threads.
        sockets: Physical packages, at least 1. A virtual machine may invent them.
        is_x86: Whether it lists x86 flags.
        is_virtual: Whether a hypervisor says it is there (x86 only).
        microcode: Its version, empty where not told: updates have changed what RAPL shows (Intel SA-00389).
    """

    model: str
    threads: int
    sockets: int
    is_x86: bool
    is_virtual: bool
    microcode: str = ""


def read_cpuinfo(root: Path) -> CpuInfo:
    """The CPU by `<root>/proc/cpuinfo`; unknown but for the number of threads where there is no such file."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), []).append(value.strip())
    flags = fields.get("flags", [])
    return CpuInfo(
        model=next(filter(None, fields.get("model name", [])), ""),
        threads=len(fields.get("processor", [])) or os.cpu_count() or 1,
        sockets=len(set(fields.get("physical id", []))) or 1,
        is_x86=bool(flags),
        is_virtual=bool(flags) and "hypervisor" in flags[0].split(),
        microcode=next(iter(fields.get("microcode", [])), ""),
    )

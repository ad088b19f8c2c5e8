"""Fake file systems for the provenance readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"

XEON = """\
processor\t: 0
model name\t: Intel(R)  Xeon(R) CPU @ 2.20GHz
siblings\t: 8
cpu cores\t: 4
flags\t\t: fpu vme hypervisor avx2

processor\t: 1
model name\t: another
"""

MACHINE = {
    "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
    "proc/sys/kernel/hostname": "gpu-box-7\n",
    "proc/cpuinfo": XEON,
    "proc/meminfo": "MemTotal:       32768000 kB\nMemFree: 1 kB\nSwapTotal:       1024 kB\n",
    "proc/self/cgroup": "0::/user.slice\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
    "sys/class/dmi/id/product_name": "m5.4xlarge\n",
    "sys/devices/system/cpu/online": "0-14,15\n",
    "sys/devices/system/cpu/smt/active": "1\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
}
"""A virtual machine with two packages of four cores and two threads each."""


def grow(root: Path, files: Mapping[str, str]) -> Path:
    """Write the files under a root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root

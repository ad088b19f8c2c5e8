"""Power of parts that have no meter: CodeCarbon's formulas, as pure functions.

They are guesses with wide ranges, used where nothing can be read; whoever uses them labels the result
`modelled`. Source: CodeCarbon 3.3.2, `external/hardware.py` (CPU) and `external/ram.py` (memory).
"""

from __future__ import annotations

import math

__all__ = ["WATTS_PER_THREAD", "cpu_power_w", "estimate_dimms", "ram_power_w"]

WATTS_PER_THREAD = 4
"""Thermal design power per hardware thread of a CPU that is in no table (CodeCarbon's default)."""

_IDLE_SHARE = 0.1

_DIMM_W_X86 = 5.0
_DIMM_W_ARM = 1.5
_DIMMS_AT_LEAST = 2

# Memory modules beyond the first few are charged less: (how many, share of the power of a full one).
_DIMM_TIERS = ((4, 1.0), (4, 0.9), (8, 0.8), (math.inf, 0.7))

# Up to this many GiB a machine usually has so many modules; above, modules as large as fit eight times.
_USUAL_DIMMS = ((2, 1), (16, 2), (64, 4), (128, 8))
_LARGE_DIMMS_GB = (128, 64, 32, 16)
_LARGE_SLOTS = 8
_DIMMS_AT_MOST = 32


def cpu_power_w(tdp_w: float, load_ratio: float) -> float:
    """Power in W of a CPU: TDP x (0.1 + 0.9 x load^3).

    100 W at half load: 100 x (0.1 + 0.9 x 0.125) = 21.25 W.

    Args:
        tdp_w: Thermal design power of all packages in W.
        load_ratio: Busy share of all threads, 0 to 1.

    Raises:
        ValueError: If the design power is negative or the load is not a ratio.
    """
    if not 0 <= tdp_w < math.inf:
        raise ValueError(f"cpu power: expected tdp_w >= 0, got {tdp_w}")
    if not 0 <= load_ratio <= 1:
        raise ValueError(f"cpu power: expected a load_ratio from 0 to 1, got {load_ratio}")
    return tdp_w * (_IDLE_SHARE + (1 - _IDLE_SHARE) * load_ratio**3)


def estimate_dimms(memory_gb: float) -> int:
    """How many memory modules a machine with so much memory usually has.

    24 GiB: 4 modules; 384 GiB: 12 modules of 32 GiB.

    Raises:
        ValueError: If the size is negative or not finite.
    """
    if not 0 <= memory_gb < math.inf:
        raise ValueError(f"memory modules: expected memory_gb >= 0, got {memory_gb}")
    for up_to_gb, dimms in _USUAL_DIMMS:
        if memory_gb <= up_to_gb:
            return dimms
    size_gb = next(size for size in _LARGE_DIMMS_GB if size <= memory_gb / _LARGE_SLOTS)
    return min(math.ceil(memory_gb / size_gb), _DIMMS_AT_MOST)


def ram_power_w(memory_gb: float, *, arm: bool = False) -> float:
    """Power in W of all memory: 5 W a module (1.5 W beside an ARM CPU), less for many, at least two modules.

    24 GiB: 4 x 5 = 20 W. 384 GiB: 12 modules, 5 x (4 + 4 x 0.9 + 4 x 0.8) = 54 W.

    Args:
        memory_gb: Size of the memory in GiB (2^30 bytes), which CodeCarbon calls GB.
        arm: Whether the CPU is an ARM one.

    Raises:
        ValueError: If the size is negative or not finite.
    """
    left: float = estimate_dimms(memory_gb)
    charged = 0.0
    for width, share in _DIMM_TIERS:
        charged += share * min(left, width)
        left -= min(left, width)
    return (_DIMM_W_ARM if arm else _DIMM_W_X86) * max(_DIMMS_AT_LEAST, charged)

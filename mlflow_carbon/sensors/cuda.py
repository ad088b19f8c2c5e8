"""Which GPUs `CUDA_VISIBLE_DEVICES` leaves to this process. A pure function of the text and the GPUs.

The rules are those of the CUDA programming guide, "CUDA environment variables".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Visible", "visible"]

_MIG = "MIG slices are not measured yet, and the whole GPU is not charged to a slice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """The GPUs to count.

    Attributes:
        indices: Their places in the list of GPUs, which NVML keeps in PCI order.
        by_number: Whether any was named by its number, which CUDA may count in another order.
        problems: Why entries of the variable name no GPU.
    """

    indices: tuple[int, ...]
    by_number: bool = False
    problems: tuple[str, ...] = ()


def visible(value: str | None, uuids: Sequence[str]) -> Visible:
    """The GPUs that a value of `CUDA_VISIBLE_DEVICES` shows.

    Not set: all. Entries are numbers or beginnings of UUIDs (`GPU-8932f937`); the first one that names no
    GPU, -1 included, hides itself and all that follow. Each GPU counts once.
    """
    if value is None:
        return Visible(indices=tuple(range(len(uuids))))
    if not value.strip():
        return Visible(indices=(), problems=("CUDA_VISIBLE_DEVICES is empty: this process uses no GPU",))
    indices: list[int] = []
    problems: list[str] = []
    by_number = False
    for entry in (part.strip() for part in value.split(",")):
        if entry.upper().startswith("MIG"):
            problems.append(f"CUDA_VISIBLE_DEVICES names {entry}: {_MIG}")
            continue
        index = _index(entry, uuids)
        if index is None:
            problems.append(
                f"CUDA_VISIBLE_DEVICES names {entry!r}, which is none of the {len(uuids)} GPUs; "
                "CUDA ignores it and what follows"
            )
            break
        by_number = by_number or entry.isdecimal()
        indices.append(index)
    return Visible(indices=tuple(dict.fromkeys(indices)), by_number=by_number, problems=tuple(problems))


def _index(entry: str, uuids: Sequence[str]) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    if not entry.startswith("GPU-"):
        return None
    fitting = [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None

"""Which GPUs `CUDA_VISIBLE_DEVICES` leaves to this process. A pure function of the text and the GPUs.

The rules are those of the CUDA programming guide, "CUDA environment variables", and of the MIG user guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Visible", "visible"]

_UNTOLD = 4  # Of a UUID only the kind is told: the rest says on whose machine a run was.


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """The GPUs to count.

    Attributes:
        indices: Places of whole GPUs in the list of GPUs, which NVML keeps in PCI order.
        slices: MIG slices by the place of their GPU and their place on it.
        by_number: Whether any was named by its number, which CUDA may count in another order.
        problems: Why entries of the variable name no GPU.
    """

    indices: tuple[int, ...]
    slices: tuple[tuple[int, int], ...] = ()
    by_number: bool = False
    problems: tuple[str, ...] = ()


def visible(
    value: str | None,
    uuids: Sequence[str],
    slices: Sequence[Sequence[tuple[str, ...]]] = (),
    *,
    variable: str = "CUDA_VISIBLE_DEVICES",
) -> Visible:
    """The GPUs that a value of `CUDA_VISIBLE_DEVICES` shows.

    Not set: all. Entries are numbers, beginnings of UUIDs (`GPU-8932f937`) or names of MIG slices (`MIG-` and
    a UUID, or `MIG-GPU-<uuid>/<GPU instance>/<compute instance>`); the first one that names no GPU, -1
    included, hides itself and all that follow. Each GPU counts once.

    Args:
        value: The variable; None: not set.
        uuids: Of the GPUs in NVML's order.
        slices: By GPU, the names of each of its slices.
        variable: Its name; ROCm's follow the same rules.
    """
    if value is None:
        return Visible(indices=tuple(range(len(uuids))))
    if not value.strip():
        return Visible(indices=(), problems=(f"{variable} is empty: this process uses no GPU",))
    indices: list[int] = []
    parts: list[tuple[int, int]] = []
    problems: list[str] = []
    by_number = False
    for entry in (part.strip() for part in value.split(",")):
        if entry.upper().startswith("MIG"):
            part = _slice(entry, slices)
            if part is None:
                problems.append(f"{variable} names a MIG slice that the driver does not list")
            else:
                parts.append(part)
            continue
        index = _index(entry, uuids)
        if index is None:
            problems.append(
                f"{variable} names {_told(entry)!r}, which is none of the {len(uuids)} GPUs; "
                "it and what follows are ignored"
            )
            break
        by_number = by_number or entry.isdecimal()
        indices.append(index)
    return Visible(
        indices=tuple(dict.fromkeys(indices)),
        slices=tuple(dict.fromkeys(parts)),
        by_number=by_number,
        problems=tuple(problems),
    )


def _told(entry: str) -> str:
    return f"{entry[:_UNTOLD]}..." if entry.startswith("GPU-") else entry


def _index(entry: str, uuids: Sequence[str]) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    if not entry.startswith("GPU-"):
        return None
    fitting = [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None


def _slice(entry: str, slices: Sequence[Sequence[tuple[str, ...]]]) -> tuple[int, int] | None:
    """The one slice with this name; of a UUID the beginning is enough, of the older form it is not."""
    fitting = [
        (gpu, number)
        for gpu, on_gpu in enumerate(slices)
        for number, names in enumerate(on_gpu)
        if any(name == entry or ("/" not in name and name.startswith(entry)) for name in names)
    ]
    return fitting[0] if len(fitting) == 1 else None

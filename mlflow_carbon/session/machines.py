"""Over how many machines a training is spread and which one this is, as its launcher tells its processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Node", "finding", "index", "machines", "node"]

# Number and index, as one launcher tells both. torchrun: its agents, one on each machine. DeepSpeed: the
# hosts of its hostfile. Slurm: the nodes of the step, in which `SLURM_NODEID` counts; a process outside of a
# step is told those of the job.
_TOLD = (
    ("GROUP_WORLD_SIZE", "GROUP_RANK"),
    ("CROSS_SIZE", "CROSS_RANK"),
    ("SLURM_STEP_NUM_NODES", "SLURM_NODEID"),
    ("SLURM_NNODES", "SLURM_NODEID"),
)
_DIGITS = 6  # more machines than there are would fill the memory with the names of the missing
_RANK = ("RANK", "OMPI_COMM_WORLD_RANK")
_RANKS, _RANKS_HERE = (
    ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"),
    ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One of the machines of a training.

    Attributes:
        name: Its index, else a name of the host.
        number: How many there are.
        is_first: Whether it stands for the run: its series are the run's, and its end is.
        host: Its host, as far as privacy allows.
    """

    name: str
    number: int
    is_first: bool
    host: str = ""

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Node | None:
        """The node of a journal's header, if it has one."""
        return cls(**record) if record else None


def machines(env: Mapping[str, str]) -> int:
    """Number of machines: as told, else all ranks over those of this machine; 1 where nobody says."""
    number, _ = _told(env)
    here, ranks = _first(env, _RANKS_HERE) or 0, _first(env, _RANKS) or 0
    return number or (-(-ranks // here) if here and ranks else 1)


def index(env: Mapping[str, str]) -> int | None:
    """Which machine this is, from 0; None where the launcher does not say, or says what cannot be."""
    number, found = _told(env)
    return found if found is not None and found < number else None


def node(env: Mapping[str, str], *, fallback: str, host: str = "") -> Node | None:
    """This machine among those of the training; None where it is the only one.

    Args:
        env: The environment that the launcher gave the process.
        fallback: Its name where the launcher gives it no index.
        host: Its host, as far as privacy allows.
    """
    number, which = machines(env), index(env)
    if number <= 1:
        return None
    is_first = which == 0 if which is not None else _first(env, _RANK) == 0
    name = str(which) if which is not None else fallback
    return Node(name=name, number=number, is_first=is_first, host=host)


def finding(env: Mapping[str, str]) -> str | None:
    """What a block on several machines must say, since it has no run in which they could be added up."""
    number = machines(env)
    if number <= 1:
        return None
    return f"the training runs on {number} machines: this is the energy of one of them"


def _told(env: Mapping[str, str]) -> tuple[int, int | None]:
    """Number of machines, 0 where it is not told, and the index of this one by the same launcher."""
    for of, which in _TOLD:
        if _number(env, of):
            return _number(env, of) or 0, _number(env, which)
    return 0, None


def _first(env: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    return next((n for n in (_number(env, name) for name in names) if n is not None), None)


def _number(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None

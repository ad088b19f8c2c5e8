"""How many machines a training runs on, as its launcher tells its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["finding", "machines"]

# torchrun: its agents, one on each machine. Slurm: the nodes of the job.
_TOLD = ("GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES", "SLURM_NNODES")
_RANKS, _RANKS_HERE = "WORLD_SIZE", ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")


def machines(env: Mapping[str, str]) -> int:
    """Number of machines: as told, else all ranks over those of this machine; 1 where nobody says."""
    for name in _TOLD:
        if _number(env, name):
            return _number(env, name)
    here = next((n for n in (_number(env, name) for name in _RANKS_HERE) if n), 0)
    ranks = _number(env, _RANKS)
    return -(-ranks // here) if here and ranks else 1


def finding(env: Mapping[str, str]) -> str | None:
    """What a run on several machines must say, since it is measured on one of them."""
    number = machines(env)
    if number <= 1:
        return None
    return f"the training runs on {number} machines: this is the energy of one of them"


def _number(env: Mapping[str, str], name: str) -> int:
    text = env.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0

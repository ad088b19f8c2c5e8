"""Tags of a run: what is known at once, what the background adds, which stay when there are too many."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from mlflow_carbon.provenance import container, facts, git, host, software

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_carbon.provenance.facts import Place

__all__ = ["MAX_CHARS", "TAGS", "capped", "quick_tags", "slow_tags"]

MAX_CHARS = 500
"""Longest value; MLflow cuts at 8000 in silence, and a search wants short ones."""

TAGS = (
    "carbon.kind",
    "carbon.error",
    "carbon.basis",
    "carbon.quality",
    "carbon.verdict",
    "carbon.schema",
    "carbon.shared",
    "carbon.nodes",
    "carbon.grid.zone",
    "carbon.grid.provider",
    "carbon.grid.kind",
    "carbon.grid.zone_source",
    "carbon.dataset",
    "carbon.functional_unit",
    "carbon.git.commit",
    "carbon.git.dirty",
    "carbon.host.cpu",
    "carbon.host.gpu",
    "carbon.pue.source",
    "carbon.git.branch",
    "carbon.host.torch",
    "carbon.host.python",
    "carbon.host.container",
    "carbon.host.kernel",
    "carbon.host.packages",
    "carbon.fingerprint",
)
"""Our tags, the most important first: the order in which they stay when there are too many."""

_GIB = 1 << 30


def quick_tags(place: Place | None = None) -> dict[str, str]:
    """Tags that cost a few milliseconds: no subprocess, no driver, no import.

    Args:
        place: Where to look. None means this process, whose machine and packages are read once; its
            commit and its torch are read each time, since a notebook lives long.
    """
    looked = facts.here() if place is None else place
    machine = dict(_machine_of_this_process()) if place is None else _machine(looked)
    checkout = git.read(looked.start)
    torch = software.torch(looked.modules)
    return _tags(
        {
            "carbon.git.commit": checkout.commit if checkout else None,
            "carbon.git.branch": checkout.branch if checkout else None,
            "carbon.host.torch": torch.version if torch else None,
            **machine,
        }
    )


def slow_tags(document: Mapping[str, Any]) -> dict[str, str]:
    """The tags that only the full document knows: whether the tree is dirty, GPU with driver, torch."""
    checkout, gpus = document.get("git"), document.get("gpu") or {}
    boards = Counter(device["name"] for device in gpus.get("devices", []))
    torch = document.get("software", {}).get("torch") or {}
    return _tags(
        {
            "carbon.git.dirty": checkout["dirty"] if checkout else None,
            "carbon.host.gpu": _gpus(boards, gpus.get("driver")),
            "carbon.host.torch": torch.get("version"),
        }
    )


def capped(tags: Mapping[str, str], limit: int) -> dict[str, str]:
    """At most `limit` of the tags, by the order of `TAGS`; those it does not know go first."""
    rank = {name: n for n, name in enumerate(TAGS)}
    kept = sorted(tags, key=lambda name: (rank.get(name, len(TAGS)), name))[: max(0, limit)]
    return {name: tags[name] for name in kept}


@cache
def _machine_of_this_process() -> tuple[tuple[str, str | None], ...]:
    return tuple(_machine(facts.here()).items())


def _machine(place: Place) -> dict[str, str | None]:
    machine = host.read(place.root)
    listed = software.packages(place.path)
    return {
        "carbon.host.kernel": machine.kernel,
        "carbon.host.container": container.read(place.root, env=place.env).kind,
        "carbon.host.cpu": machine.cpu.model and f"{machine.cpu.model}{_sizes(machine)}",
        "carbon.host.python": software.python(),
        "carbon.host.packages": software.packages_sha256(listed) if listed else None,
    }


def _sizes(machine: host.Host) -> str:
    """Threads and memory, in the tag of the CPU: a run gets twenty tags of ours, so some are shared."""
    threads, memory = machine.cpu.threads, machine.memory_bytes
    return (f", {threads} threads" if threads else "") + (f", {memory / _GIB:.1f} GiB RAM" if memory else "")


def _gpus(boards: Mapping[str, int], driver: str | None) -> str:
    listed = ", ".join(f"{n} x {name}" for name, n in boards.items())
    return f"{listed}, driver {driver}" if listed and driver else listed


def _tags(values: Mapping[str, str | None]) -> dict[str, str]:
    """Short strings only: a value that is no string would break the user's `start_run`."""
    return {name: str(value)[:MAX_CHARS] for name, value in values.items() if value}

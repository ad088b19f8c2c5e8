"""Which kind of container a process is in, told only by two signals that agree.

One signal is not proof: `/.dockerenv` also exists on virtual machines made from an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_carbon.provenance.facts import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Container", "read"]

_NEEDED = 2

# Kind -> variables, files, words in the control group or in the mounts. The order decides a tie: a
# pod is also whatever engine runs it.
_SIGNS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "kubernetes": (
        ("KUBERNETES_SERVICE_HOST",),
        ("var/run/secrets/kubernetes.io/serviceaccount",),
        ("kubepods", "/kubelet/pods/"),
    ),
    "apptainer": (
        ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"),
        (".singularity.d",),
        ("/apptainer/", "/singularity/"),
    ),
    "podman": ((), ("run/.containerenv",), ("libpod", "/containers/storage/")),
    "docker": ((), (".dockerenv",), ("/docker/containers/", "/docker-", "/docker/")),
    "lxc": ((), ("dev/.lxc-boot-id",), ("/lxc/", "lxcfs", "/lxc.payload")),
}
_ENGINES = frozenset({"kubernetes", "podman", "docker"})
_VALUES = {"docker": "docker", "podman": "podman", "oci": "podman", "lxc": "lxc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What surrounds the process.

    Attributes:
        kind: `kubernetes`, `apptainer`, `podman`, `docker` or `lxc`; None without two signals.
        signals: Everything that pointed to a container, also where it was not enough.
        image: Image reference or digest, where `CARBON_IMAGE_DIGEST` gives it; it cannot be read from inside.
        cpu_max: Quota and period in microseconds (control group v2), or `max`.
        memory_max: Memory limit in bytes, or `max`.
    """

    kind: str | None
    signals: tuple[str, ...]
    image: str | None
    cpu_max: str | None
    memory_max: str | None


def read(root: Path, *, env: Mapping[str, str]) -> Container:
    """The container of this process, from its environment, files, control group and mounts."""
    cgroup, mounts = text(root / "proc/self/cgroup"), text(root / "proc/self/mountinfo")
    found = {kind: list(_signals(kind, root, env, (cgroup, mounts))) for kind in _SIGNS}
    overlay = _has_overlay_root(mounts)
    for kind in _ENGINES:
        if found[kind] and overlay:
            found[kind].append("overlay root")
    group = root / "sys/fs/cgroup" / _own_group(cgroup)
    return Container(
        kind=next((k for k, signals in found.items() if len(signals) >= _NEEDED), None),
        signals=tuple(dict.fromkeys(s for signals in found.values() for s in signals)),
        image=env.get("CARBON_IMAGE_DIGEST") or None,
        cpu_max=text(group / "cpu.max") or None,
        memory_max=text(group / "memory.max") or None,
    )


def _signals(kind: str, root: Path, env: Mapping[str, str], texts: tuple[str, str]) -> Iterator[str]:
    variables, files, words = _SIGNS[kind]
    yield from (f"variable {name}" for name in variables if env.get(name))
    yield from (f"file /{name}" for name in files if (root / name).exists())
    for source, content in zip(("control group", "mounts"), texts, strict=True):
        if any(word in content for word in words):
            yield f"{source}: {kind}"
    if _VALUES.get(env.get("container", "")) == kind:
        yield "variable container"


def _has_overlay_root(mountinfo: str) -> bool:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4:5] == ["/"]:  # the fifth field is the mount point
            return after.startswith(("overlay ", "fuse.fuse-overlayfs "))
    return False


def _own_group(cgroup: str) -> str:
    """Path of the process's own control group (version 2), without the leading slash."""
    line = next((x for x in cgroup.splitlines() if x.startswith("0::")), "0::/")
    path = line.removeprefix("0::").strip("/")
    return "" if ".." in path else path

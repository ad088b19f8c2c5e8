"""Python, torch and the set of installed packages.

torch is looked at only if it is loaded already, and packages are read from the names of
`*.dist-info` folders: that takes under a millisecond, `importlib.metadata` a hundred times as long.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Torch", "packages", "packages_sha256", "python", "torch"]

_SUFFIX = ".dist-info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch:
    """The loaded torch and what it was built for.

    Attributes:
        version: Version with its build, for example `2.13.0+cpu`.
        cuda: CUDA version it was built for; None for a build without.
        hip: ROCm version it was built for; None for a build without.
    """

    version: str
    cuda: str | None
    hip: str | None


def python() -> str:
    """Implementation and version, for example `CPython 3.12.4`."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def torch(modules: Mapping[str, object]) -> Torch | None:
    """The torch that is loaded; None if it is not (a half-loaded one counts as not)."""
    module = modules.get("torch")
    version = getattr(module, "__version__", None)
    if version is None:
        return None
    build = getattr(module, "version", None)
    cuda, hip = getattr(build, "cuda", None), getattr(build, "hip", None)
    return Torch(version=str(version), cuda=str(cuda) if cuda else None, hip=str(hip) if hip else None)


def packages(path: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Name and version of each installed package, sorted; of two the first on the path counts."""
    found: dict[str, str] = {}
    for folder in dict.fromkeys(path):
        for name, version in sorted(_listed(folder)):
            found.setdefault(name, version)
    return tuple(sorted(found.items()))


def packages_sha256(listed: Iterable[tuple[str, str]]) -> str:
    """Hash of the set: SHA-256 over sorted lines `name==version`, each ended by a newline."""
    from hashlib import sha256

    lines = "".join(f"{name}=={version}\n" for name, version in sorted(listed))
    return sha256(lines.encode()).hexdigest()


def _listed(folder: str) -> Iterable[tuple[str, str]]:
    try:
        # scandir and listdir read one folder; pathlib would make an object for each entry.
        names = os.listdir(folder or ".")  # noqa: PTH208 - as said
    except OSError:  # a zip file, a folder that is gone
        return
    for entry in names:
        # pip renames what it is about to delete to `~name`.
        if entry.endswith(_SUFFIX) and not entry.startswith("~"):
            name, _, version = entry.removesuffix(_SUFFIX).rpartition("-")
            if name:
                yield re.sub(r"[-_.]+", "-", name).lower(), version

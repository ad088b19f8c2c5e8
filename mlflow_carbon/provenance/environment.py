"""The full document `environment.json`: everything the readers know, for the background to write.

Never in it: command lines, the whole environment, user info of addresses, paths of the user's files.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlflow_carbon import settings
from mlflow_carbon._version import __version__
from mlflow_carbon.provenance import container, git, gpu, host, privacy, software

if TYPE_CHECKING:
    from mlflow_carbon.provenance.facts import Place

__all__ = ["SCHEMA", "document"]

SCHEMA = "1.0"


def document(
    place: Place, *, nvml: Any = None, git_timeout_s: float = git.STATUS_TIMEOUT_S
) -> dict[str, Any]:
    """Everything about where a run runs, as plain JSON values; what is not known is left out.

    Starts `git status` (with a time limit) and NVML, so it belongs in the background.

    Args:
        place: Where to look; `facts.here()` for this process.
        nvml: The module `pynvml` or something like it (`gpu.load_nvml()`); None leaves GPUs out.
        git_timeout_s: After this time `dirty` is `unknown`.
    """
    needs_key = place.privacy == "hashed"
    key = privacy.salt(settings.home(place.env)) if needs_key else None
    listed = software.packages(place.path)
    torch = software.torch(place.modules)
    found = {
        "schema": SCHEMA,
        "plugin": __version__,
        "privacy": place.privacy,
        "identity": {
            "host": privacy.conceal(privacy.host_name(place.root), mode=place.privacy, key=key),
            "user": privacy.conceal(privacy.user_name(place.env), mode=place.privacy, key=key),
        },
        "host": asdict(host.read(place.root)),
        "container": asdict(container.read(place.root, env=place.env)),
        "git": _git(place, git_timeout_s),
        "gpu": _gpu(nvml, place.privacy, key),
        "software": {
            "python": software.python(),
            "torch": asdict(torch) if torch else None,
            "packages_sha256": software.packages_sha256(listed),
            "packages": [f"{name}=={version}" for name, version in listed],
        },
        "variables": privacy.variables(place),
    }
    return {k: v for k, v in _known(found).items() if v != {}}


def _git(place: Place, timeout_s: float) -> dict[str, Any] | None:
    checkout = git.read(place.start)
    if checkout is None:
        return None
    dirty = git.is_dirty(checkout.folder, env=place.env, timeout_s=timeout_s)
    return {
        "commit": checkout.commit,
        "branch": checkout.branch,
        "remote": checkout.remote,
        "dirty": {None: "unknown", True: "true", False: "false"}[dirty],
    }


def _gpu(nvml: Any, mode: str, key: bytes | None) -> dict[str, Any] | None:
    gpus = gpu.read(nvml)
    if gpus is None:
        return None
    devices = [asdict(d) | {"uuid": privacy.conceal(d.uuid, mode=mode, key=key)} for d in gpus.devices]
    return {"driver": gpus.driver, "devices": devices}


def _known(value: Any) -> Any:
    """The value without what is None, at any depth."""
    if isinstance(value, dict):
        return {k: _known(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_known(v) for v in value]
    return value

"""What may name a person or a machine: hidden by a keyed hash, so that equality survives.

The key is a salt file in our state folder: whoever shares the folder (a site) gets the same hashes,
nobody else can guess names from them. Variables are recorded by an allow-list, and even then
not if they look like a secret.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

from mlflow_carbon.provenance.facts import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mlflow_carbon.provenance.facts import Place

__all__ = ["WITHHELD", "conceal", "host_name", "salt", "user_name", "variables"]

WITHHELD = "withheld"

_SALT_BYTES = 32
_DIGEST_CHARS = 16
_ALLOWED = re.compile(
    r"CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|NVIDIA_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES"
    r"|(OMP|MKL|OPENBLAS|NCCL|TORCH|PYTORCH|XLA)_[A-Z0-9_]+|PYTHONHASHSEED"
    r"|SLURM_(JOB_ID|ARRAY_JOB_ID|ARRAY_TASK_ID|NTASKS|NNODES|PROCID|LOCALID|CPUS_PER_TASK)"
    r"|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE"
)
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CRED")
_USER_INFO = re.compile(r"://[^/\s]*@")
# Words of 20 and more that are not plain names such as `garbage_collection_threshold`.
_LONG_WORD = re.compile(r"\b(?![a-z_]+\b)[A-Za-z0-9+/=_-]{20,}")
_HOME_FOLDER = re.compile(r"/(home|Users)/")
_SECRET_BITS = 3.5  # per character; words and lists of numbers have less, random strings of 20 more
_MIN_NAME = 3
_MAX_CHARS = 500


def conceal(value: str | None, *, mode: str, key: bytes | None) -> str | None:
    """A name as the privacy setting wants it: itself, a keyed hash, or nothing.

    Args:
        value: The name; None stays None.
        mode: `full`, `hashed` or `off`.
        key: The salt; without one a name cannot be hashed and is left out.
    """
    if not value or mode == "off":
        return None
    if mode == "full":
        return value
    if key is None:
        return None
    import hmac

    return "hmac-sha256:" + hmac.new(key, value.encode(), "sha256").hexdigest()[:_DIGEST_CHARS]


def salt(home: Path) -> bytes | None:
    """The site's salt, made on first use and readable by its owner only; None if it cannot be kept."""
    file = home / "salt"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made beside and linked, so that of two processes both get the salt of the first.
        part = home / f".salt.{os.getpid()}"
        if not file.exists():
            part.unlink(missing_ok=True)
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as new:
                new.write(os.urandom(_SALT_BYTES))
            try:
                os.link(part, file)
            except FileExistsError:
                pass
            finally:
                part.unlink(missing_ok=True)
        content = file.read_bytes()
    except OSError:
        return None
    return content if len(content) == _SALT_BYTES else None


def host_name(root: Path) -> str | None:
    """Name of the machine."""
    return text(root / "proc/sys/kernel/hostname") or None


def user_name(env: Mapping[str, str]) -> str | None:
    """Name of the user as the environment gives it."""
    return next((env[name] for name in ("LOGNAME", "USER", "USERNAME") if env.get(name)), None)


def variables(place: Place) -> dict[str, str]:
    """The variables that decide how a training runs, and nothing that looks like a secret or a name."""
    names = (host_name(place.root), user_name(place.env))
    private = [n.lower() for n in names if n and len(n) >= _MIN_NAME]
    shown = {}
    for name, value in sorted(place.env.items()):
        if _ALLOWED.fullmatch(name):
            hide = _is_secret(name, value) or (place.privacy != "full" and _is_private(value, private))
            shown[name] = WITHHELD if hide else value[:_MAX_CHARS]
    return shown


def _is_secret(name: str, value: str) -> bool:
    return bool(
        _SECRET_NAME.search(name)
        or _USER_INFO.search(value)
        or any(_bits_per_char(word) > _SECRET_BITS for word in _LONG_WORD.findall(value))
    )


def _is_private(value: str, names: Iterable[str]) -> bool:
    return bool(_HOME_FOLDER.search(value)) or any(name in value.lower() for name in names)


def _bits_per_char(word: str) -> float:
    """Shannon entropy of the characters of a word."""
    return -sum(n / len(word) * math.log2(n / len(word)) for n in Counter(word).values())

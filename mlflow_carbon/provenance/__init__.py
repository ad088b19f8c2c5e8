"""Where a run ran: host, software, git and container facts as tags and one document.

`quick_tags` is for the caller's thread, `document` and `slow_tags` for the background. Names are loaded
on first use: MLflow loads `provider` while it is itself half imported, and every `import mlflow` pays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_carbon.provenance.environment import document
    from mlflow_carbon.provenance.facts import Place, here
    from mlflow_carbon.provenance.gpu import load_nvml
    from mlflow_carbon.provenance.tags import TAGS, capped, quick_tags, slow_tags

__all__ = ["TAGS", "Place", "capped", "document", "here", "load_nvml", "quick_tags", "slow_tags"]

_HOME = {
    "TAGS": "tags",
    "Place": "facts",
    "capped": "tags",
    "document": "environment",
    "here": "facts",
    "load_nvml": "gpu",
    "quick_tags": "tags",
    "slow_tags": "tags",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value

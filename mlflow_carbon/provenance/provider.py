"""The run-context provider: our tags on every fluent run where the plugin is installed.

MLflow imports this module while it is itself half imported. So nothing here imports MLflow (not even
its base class) or anything heavy, and nothing here raises: an exception would break
`import mlflow` or take the tags of a run away.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, TypeVar

from mlflow_carbon import settings
from mlflow_carbon.provenance.tags import quick_tags

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CarbonRunContext"]

_T = TypeVar("_T")

_logger = logging.getLogger("mlflow_carbon")


class CarbonRunContext:
    """What MLflow calls before it makes a run: `in_context`, then `tags`.

    With `MLFLOW_CARBON_AUTOLOG` on, `in_context` also installs the hooks, which is early enough for the
    first run (decision 14: new fluent runs only).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_asked = False

    def in_context(self) -> bool:
        """Whether there are tags to give: always, unless `MLFLOW_CARBON_DISABLE` is on."""
        if settings.is_disabled():
            return False
        if settings.wants_autolog():
            self._install_once()
        return True

    def tags(self) -> dict[str, str]:
        """The tags that are known at once; none if they cannot be read."""
        return _quietly(quick_tags, "no provenance tags for this run") or {}

    def _install_once(self) -> None:
        with self._lock:
            is_first, self._is_asked = not self._is_asked, True
        if is_first:
            _quietly(_autolog, f"{settings.ENV_PREFIX}AUTOLOG is on, but measuring could not be switched on")


def _autolog() -> None:
    from mlflow_carbon.autologging import autolog

    autolog()


def _quietly(action: Callable[[], _T], complaint: str) -> _T | None:
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - measuring meets training: a run must start whatever fails here
        _logger.warning("mlflow-carbon: %s: %s: %s", complaint, type(error).__name__, error)
        return None

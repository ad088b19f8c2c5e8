"""`Surroundings`: everything outside that a meter needs, as one value of functions."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow_carbon.sensors import Clock, Discovery
    from mlflow_carbon.session.publish import Costing
    from mlflow_carbon.settings import Settings

__all__ = ["Surroundings"]


def _already() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a meter asks the world for. Calls are made in the background and never raise.

    Attributes:
        discover: Finds the sensors.
        costing: Intensity and PUE for settings and a UTC span in seconds.
        environment: Tags and document about this machine, for settings; may take a second.
        recover: Stores what a killed process has left of a run id, before the run is resumed.
        folder: Where journals live.
        host: Name of this machine for journal files.
        clock: The two clocks.
        counters_read: Set once the usual counters have been read for the first time, or are not there.
    """

    discover: Callable[[], Discovery]
    costing: Callable[[Settings, int, int], Costing]
    environment: Callable[[Settings], tuple[dict[str, str], dict[str, Any]]]
    recover: Callable[[str], None]
    folder: Path
    host: str
    clock: Clock
    counters_read: threading.Event = field(default_factory=_already)

"""The project backend with a clock that runs faster, and with Great Britain on the loopback.

An entry point of the tests' own metadata, so that a real `mlflow run` waits for half hours within seconds.
What differs from `mlflow_carbon.backend` are its two arguments.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from mlflow_carbon import settings
from mlflow_carbon.backend import CarbonBackend
from mlflow_carbon.grid import Access
from mlflow_carbon.grid.fetch import Cache
from mlflow_carbon.grid.gb import CarbonIntensityGB
from mlflow_carbon.scheduling.advice import system_look

CLOCK, SERVICE = "TEST_QUICK_CLOCK", "TEST_GB_URL"


class QuickClock:
    """Both clocks run `speed` times as fast; the wall clock begins when the first process of a test makes one.

    Args:
        anchor: File that keeps that moment for all of them.
        quick_s: What this clock says then.
        speed: Seconds of this clock in one of the machine's.
    """

    def __init__(self, anchor: Path, quick_s: float, speed: float) -> None:
        with suppress(FileExistsError), anchor.open("x") as file:
            file.write(str(time.time_ns() / 1e9))
        self.real_s, self.quick_s, self.speed = float(anchor.read_text()), quick_s, speed

    def monotonic_s(self) -> float:
        return time.monotonic() * self.speed

    def wall_s(self) -> float:
        return self.quick_s + (time.time_ns() / 1e9 - self.real_s) * self.speed

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.002, seconds / self.speed))


class QuickBackend(CarbonBackend):
    """As a user has it, but for the clock and the address of the service."""

    def __init__(self) -> None:
        access = Access(
            cache=Cache(folder=settings.home() / "grid"),
            providers={"gb": CarbonIntensityGB(base_url=os.environ[SERVICE])},
        )
        anchor, quick_s, speed = os.environ[CLOCK].split(",")
        clock = QuickClock(Path(anchor), float(quick_s), float(speed))
        super().__init__(clock=clock, look=system_look(access))

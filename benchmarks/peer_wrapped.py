"""perun, which wraps a function instead of being started and stopped; and no meter at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Perun:
    """perun: it wraps a function, so the block is one, and it tells only at the end, in a file.

    Its sampler is another process; readings are reckoned by its period.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def load(self) -> None:
        """Import it."""
        from perun import perun

        self._perun = perun

    def around(self, block: Callable[[], None]) -> dict[str, float]:
        """Run the block as an application; its energy."""
        folder = Path("perun")
        self._perun(
            sampling_period=self._options["period_s"], data_out=str(folder), format="json", app_name="block"
        )(block)()
        metrics = json.loads(next(folder.glob("*.json")).read_text(encoding="utf-8"))["metrics"]
        names = {"gpu": "gpu_energy", "cpu": "cpu_energy", "dram": "dram_energy"}
        return {part: float(metrics[name]["sum"]) for part, name in names.items() if name in metrics}


class Nothing:
    """No meter at all."""

    def __init__(self, options: dict[str, Any]) -> None:
        pass

    def load(self) -> None:
        """Nothing to import."""

    def start(self) -> None:
        """Nothing to start."""

    def samples(self) -> int:
        """None."""
        return 0

    def first_ns(self) -> int | None:
        """Never."""
        return None

    def stop(self) -> dict[str, float]:
        """No energy."""
        return {}

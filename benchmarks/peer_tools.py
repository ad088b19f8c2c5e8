"""How each meter is switched on, off and asked, in its own environment: one small class per tool.

Imports nothing but the standard library at the top: every tool is imported when it is loaded, and timed.
Energies are in joules, by what the tool itself tells apart; PUE is taken out again where a tool multiplies it in.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from peer_wrapped import Nothing, Perun

if TYPE_CHECKING:
    from collections.abc import Callable

J_PER_KWH = 3.6e6


class Counted:
    """Counts the calls of a method of a class, and notes when the first one ended.

    Args:
        owner: The class.
        name: The method.
    """

    def __init__(self, owner: type, name: str) -> None:
        self.calls = 0
        self.first_ns: int | None = None
        inner = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            try:
                return inner(*args, **kwargs)
            finally:
                self.calls += 1
                self.first_ns = self.first_ns or time.monotonic_ns()

        setattr(owner, name, counted)


class _Counting:
    """A peer whose readings are calls of one of its methods; `load` says of which."""

    _count: Counted

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def samples(self) -> int:
        """Readings so far."""
        return self._count.calls

    def first_ns(self) -> int | None:
        """When the first reading was in."""
        return self._count.first_ns


class Ours:
    """mlflow-carbon: `track()` around the block."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def load(self) -> None:
        """Import it."""
        import mlflow_carbon  # noqa: F401 - what is timed is the import

    def start(self) -> None:
        """Begin the block."""
        import mlflow_carbon

        period_s, run_id, uri = (self._options.get(name) for name in ("period_s", "run_id", "tracking_uri"))
        self._block = mlflow_carbon.track(
            run_id, tracking_uri=uri, period_s=period_s, grid="annual"
        ).__enter__()

    def samples(self) -> int:
        """Passes over all sensors so far."""
        from mlflow_carbon.session import meter

        session = meter.active_sessions()[0]
        return session.recording.ticks if session.recording is not None else 0

    def first_ns(self) -> int | None:
        """When every meter had been read once: each is, as soon as it is found."""
        from mlflow_carbon.session import meter

        owner = meter.current()
        assert owner is not None
        owner.sampler.wait_for_tick(0, 10.0)
        found = owner.sampler.discovery
        assert found is not None
        return max((sample.t_mono_ns for sample in found.first), default=time.monotonic_ns())

    def stop(self) -> dict[str, float]:
        """End the block; its energy."""
        self._block.__exit__(None, None, None)
        found = self._block.footprint
        assert found is not None
        parts = {"gpu": found.energy_gpu_kwh, "cpu": found.energy_cpu_kwh, "dram": found.energy_dram_kwh}
        return {name: kwh * J_PER_KWH for name, kwh in parts.items() if kwh is not None}

    def mark(self) -> Callable[[], None]:
        """One phase mark."""
        import mlflow_carbon

        def once() -> None:
            with mlflow_carbon.phase("forward"):
                pass

        return once


class CodeCarbon(_Counting):
    """CodeCarbon's offline tracker."""

    def load(self) -> None:
        """Import it."""
        import codecarbon
        from codecarbon.emissions_tracker import BaseEmissionsTracker

        assert codecarbon
        self._count = Counted(BaseEmissionsTracker, "_measure_power_and_energy")

    def start(self) -> None:
        """Construct and start a tracker."""
        from codecarbon import OfflineEmissionsTracker

        self._tracker = OfflineEmissionsTracker(
            country_iso_code="GBR",
            measure_power_secs=self._options["period_s"],
            save_to_file=False,
            log_level="error",
            allow_multiple_runs=True,
        )
        self._tracker.start()

    def stop(self) -> dict[str, float]:
        """Stop it; its energy."""
        self._tracker.stop()
        data = self._tracker.final_emissions_data
        found = {"gpu": data.gpu_energy, "cpu": data.cpu_energy}
        return {name: kwh * J_PER_KWH for name, kwh in found.items()}


class Zeus:
    """Zeus: one window of a `ZeusMonitor`."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def load(self) -> None:
        """Import it."""
        import zeus.monitor  # noqa: F401 - what is timed is the import

    def start(self) -> None:
        """Make a monitor and begin a window, without CUDA's synchronisation."""
        from zeus.monitor import ZeusMonitor

        self._monitor = ZeusMonitor()
        self._monitor.begin_window("block", sync_execution=False)
        self._first_ns = time.monotonic_ns()

    def samples(self) -> int:
        """It takes none where there is an energy counter."""
        return 0

    def first_ns(self) -> int | None:
        """The beginning of the window is its first reading."""
        return self._first_ns

    def stop(self) -> dict[str, float]:
        """End the window; its energy."""
        found = self._monitor.end_window("block", sync_execution=False)
        parts = {"gpu": found.gpu_energy, "cpu": found.cpu_energy, "dram": found.dram_energy}
        return {name: float(sum(values.values())) for name, values in parts.items() if values}

    def mark(self) -> Callable[[], None]:
        """One window of its own."""

        def once() -> None:
            self._monitor.begin_window("forward", sync_execution=False)
            self._monitor.end_window("forward", sync_execution=False)

        return once


class Carbontracker(_Counting):
    """carbontracker: the block is an epoch."""

    def load(self) -> None:
        """Import it."""
        from carbontracker.tracker import CarbonTrackerThread

        self._count = Counted(CarbonTrackerThread, "_collect_measurements")

    def start(self) -> None:
        """Make a tracker and begin an epoch."""
        from carbontracker.tracker import CarbonTracker

        self._tracker = CarbonTracker(
            epochs=2, epochs_before_pred=0, update_interval=self._options["period_s"], verbose=0
        )
        self._tracker.epoch_start()

    def stop(self) -> dict[str, float]:
        """End the epoch; its energy, before PUE."""
        thread = self._tracker.tracker
        self._tracker.epoch_end()
        times = thread.epoch_times
        found = {c.name: float(sum(c.energy_usage(times))) * J_PER_KWH for c in thread.components}
        self._tracker.stop()
        return found


class Eco2ai(_Counting):
    """eco2AI's tracker."""

    def load(self) -> None:
        """Import it."""
        import eco2ai

        self._count = Counted(eco2ai.Tracker, "_func_for_sched")

    def start(self) -> None:
        """Make and start a tracker; the place is given, so that it asks no network."""
        import eco2ai

        self._tracker = eco2ai.Tracker(
            measure_period=self._options["period_s"],
            emission_level=200.0,
            alpha_2_code="GB",
            file_name="emission.csv",
            ignore_warnings=True,
            timezone="UTC",
        )
        self._tracker.start()

    def stop(self) -> dict[str, float]:
        """Stop it; its energy, also where it fails to write that down."""
        try:
            self._tracker.stop()
        except (TypeError, ValueError, AttributeError) as error:
            print(f"stop raised {type(error).__name__}: {error}", file=sys.stderr)
        gpu, cpu = self._tracker._gpu, self._tracker._cpu  # noqa: SLF001 - it tells the parts nowhere else
        return {"gpu": gpu.get_consumption() * J_PER_KWH, "cpu": cpu.get_consumption() * J_PER_KWH}


TOOLS: dict[str, Any] = {
    "mlflow-carbon": Ours,
    "CodeCarbon": CodeCarbon,
    "Zeus": Zeus,
    "carbontracker": Carbontracker,
    "eco2AI": Eco2ai,
    "perun": Perun,
    "none": Nothing,
}

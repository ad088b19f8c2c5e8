"""How a wait is shown: a bar on a terminal, else a line now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.core.times import second
from mlflow_carbon.scheduling.account import span

if TYPE_CHECKING:
    from typing import TextIO

    from mlflow_carbon.scheduling.advice import Advice
    from mlflow_carbon.scheduling.wait import Progress

__all__ = ["Display"]

_EVERY_S = 1800.0
_BAR_CHARS = 24


class Display:
    """Shows a wait on a stream.

    Args:
        stream: Where; a terminal gets a bar that is drawn over, anything else lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._start_s: float | None = None
        self._said_s: float | None = None
        self._drawn = 0

    def line(self, text: str) -> None:
        """A line of its own."""
        self._wipe()
        self._write(f"mlflow-carbon: {text}\n")

    def planned(self, advice: Advice) -> None:
        """Tell of a plan whose start is another one than before."""
        plan = advice.plan
        if plan.start_s == self._start_s or plan.is_now:
            return
        self._start_s = plan.start_s
        where = f" in {plan.zone}" if plan.zone else ""
        self.line(
            f"planned start {second(plan.start_s)}{where}: {plan.reason}; expected to save "
            f"{plan.saving_ratio:.1%} ({plan.saving_low_ratio:.1%} to {plan.saving_high_ratio:.1%}, "
            f"{plan.source})"
        )

    def progress(self, now: Progress) -> None:
        """Draw the bar, or say a line every half hour of the wait."""
        figures = (
            f"{span(now.left_s)} left, now {now.now_gco2e_per_kwh:.0f}, "
            f"target {now.target_gco2e_per_kwh:.0f} gCO2e/kWh"
        )
        if self._is_terminal:
            whole_s = now.waited_s + now.left_s
            full = round(_BAR_CHARS * now.waited_s / whole_s) if whole_s > 0 else _BAR_CHARS
            text = f"[{'#' * full}{'.' * (_BAR_CHARS - full)}] {figures}"
            self._write(f"\r{text:{self._drawn}}")
            self._drawn = len(text)
        elif self._said_s is None or not 0 <= now.waited_s - self._said_s < _EVERY_S:
            self._said_s = now.waited_s
            self.line(f"waiting: {figures}")

    def _wipe(self) -> None:
        if self._drawn:
            self._write(f"\r{' ' * self._drawn}\r")
            self._drawn = 0

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone; the wait is not
            return

"""What an order's wait was worth in the end, by the intensities that came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.core.savings import Stay, saving

if TYPE_CHECKING:
    from mlflow_carbon.core.savings import Saving
    from mlflow_carbon.scheduling.advice import Look
    from mlflow_carbon.scheduling.order import Order
    from mlflow_carbon.settings import Settings

__all__ = ["outcome"]


def outcome(
    order: Order,
    look: Look,
    *,
    started_s: float,
    ended_s: float,
    energy_kwh: float,
    where: Settings | None = None,
) -> Saving:
    """Compare the run with itself at the time of submission and at the best time.

    Args:
        order: As it was submitted.
        look: How the grid is asked.
        started_s: When the run started, UTC seconds since the epoch.
        ended_s: When it ended: now.
        energy_kwh: What it used.
        where: Settings of the grid it ran on, if it was moved; both times are compared on that grid.
    """
    stay = Stay(
        submitted_s=min(order.submitted_s, started_s),
        started_s=started_s,
        ended_s=ended_s,
        latest_start_s=max(order.latest_start_s, started_s),
        idle_w=order.job.idle_w,
    )
    end_s = max(stay.latest_start_s + stay.length_s, ended_s)
    series = look(where or order.settings, stay.submitted_s, end_s, ended_s)
    return saving(series, stay, energy_kwh=energy_kwh)

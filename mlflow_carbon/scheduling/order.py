"""What somebody wants to run, until when, and where it may run: the input of all advice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlflow_carbon.core.plans import Job, Terms

if TYPE_CHECKING:
    from mlflow_carbon.settings import Settings

__all__ = ["Order", "Place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Another grid where the job may run.

    Attributes:
        zone: Grid zone id.
        transfer_kwh: Energy of moving data and software there.
    """

    zone: str
    transfer_kwh: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A job as it was submitted. Its times are absolute, so that a restart keeps them.

    Attributes:
        settings: Zone and source of intensities.
        job: Length, power, and the longest wait counted from `submitted_s`.
        submitted_s: When it was submitted, UTC seconds since the epoch.
        finish_by_s: When it must be over; None for no such time. Whatever binds first counts.
        policy: Name in `core.policies.POLICIES`.
        terms: When waiting is worth it.
        places: Where else it may run; only the policy `region` moves it.
    """

    settings: Settings
    job: Job
    submitted_s: float
    finish_by_s: float | None = None
    policy: str = "window"
    terms: Terms = field(default_factory=Terms)
    places: tuple[Place, ...] = ()

    @property
    def latest_start_s(self) -> float:
        """The last time to start, never before the submission."""
        latest_s = self.submitted_s + self.job.max_wait_s
        if self.finish_by_s is not None:
            latest_s = min(latest_s, self.finish_by_s - self.job.length_s)
        return max(latest_s, self.submitted_s)

    @property
    def is_too_late(self) -> bool:
        """Whether it could not end in time even if it started when it was submitted."""
        return self.finish_by_s is not None and self.finish_by_s < self.submitted_s + self.job.length_s

    def job_at(self, slot_s: float) -> Job:
        """The job with the wait that is left from the start of the present slot."""
        return replace(self.job, max_wait_s=max(0.0, self.latest_start_s - slot_s))

"""CPU time: of the process, of our own threads in it, and of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlflow_carbon.cpu_time import machine_now

__all__ = ["Usage", "used"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU time of a span in seconds: the process with its children, our threads, the busy machine.

    The machine's is None where it cannot be read.
    """

    process_s: float
    own_s: float
    machine_s: float | None

    def since(self, then: Usage) -> Usage:
        """What has been used since an earlier reading."""
        return Usage(
            process_s=self.process_s - then.process_s,
            own_s=self.own_s - then.own_s,
            machine_s=self.machine_s - then.machine_s
            if self.machine_s is not None and then.machine_s is not None
            else None,
        )


def used(own_ns: int) -> Usage:
    """CPU time used so far. Never raises: it is read while a run starts and stops.

    Args:
        own_ns: That of our threads.
    """
    own = os.times()
    try:
        machine_s = machine_now().busy_s
    except OSError:  # no file descriptor left, or no permission
        machine_s = None
    return Usage(
        process_s=own.user + own.system + own.children_user + own.children_system,
        own_s=own_ns / 1e9,
        machine_s=machine_s,
    )

"""`slurm`: a batch script that is not eligible before the planned time.

`sbatch` reads a time in the zone of the shell that submits, and a relative one (`now+...`) would shift with
every minute between planning and submitting. So the time is absolute and in UTC, the script is submitted with
TZ=UTC, and it looks at the clock before it computes.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from mlflow_carbon.scheduling.manifests.text import comment, header, moment, utc

if TYPE_CHECKING:
    from mlflow_carbon.scheduling.manifests.contract import Launch, Ticket

__all__ = ["render"]

_QUEUE_S = 600
"""What is left for the queue between the limit and a deadline that Slurm is told."""
_EARLY_S = 120
"""How much earlier than planned is still taken for a clock that is a little off."""


def render(ticket: Ticket) -> str:
    """The script for `sbatch`."""
    ticket.in_one_piece("slurm")
    deadline_s = _deadline_s(ticket)
    options = [
        f"--job-name={ticket.launch.name}",
        *([] if ticket.is_at_once else [f"--begin={_time(ticket.start_s)}"]),
        f"--time={_length(ticket.launch.limit_s)}",
        *([] if deadline_s is None else [f"--deadline={_time(deadline_s)}"]),
        *_machine(ticket.launch),
    ]
    return "".join(
        [
            "#!/bin/bash\n",
            header(ticket, "slurm", *_notes(ticket)),
            *(f"#SBATCH {option}\n" for option in options),
            "\nset -eu\n",
            "" if ticket.is_at_once else _watch(ticket),
            f"exec {shlex.join(ticket.launch.command)}\n",
        ]
    )


def _notes(ticket: Ticket) -> list[str]:
    launch = ticket.launch
    has_times = not ticket.is_at_once or _deadline_s(ticket) is not None
    return [
        "Use: TZ=UTC sbatch FILE. Without TZ=UTC sbatch takes its times for local ones."
        if has_times
        else "Use: sbatch FILE",
        "Slurm begins no earlier; the queue may make it later. --time is half as long again as estimated.",
        *_deadline_note(ticket),
        *([f"Slurm itself runs no images: {launch.image} is not used."] if launch.image else []),
    ]


def _deadline_s(ticket: Ticket) -> float | None:
    """When it must have ended, if Slurm can be told: it drops what its limit would not let end by then."""
    finish_by_s = ticket.launch.finish_by_s
    if finish_by_s is None or finish_by_s < ticket.start_s + ticket.launch.limit_s + _QUEUE_S:
        return None
    return finish_by_s


def _deadline_note(ticket: Ticket) -> list[str]:
    finish_by_s = ticket.launch.finish_by_s
    if finish_by_s is None or _deadline_s(ticket) is not None:
        return []
    return [f"It should end by {utc(finish_by_s)}. Not said by --deadline: with this --time Slurm drops it."]


def _machine(launch: Launch) -> list[str]:
    wanted = launch.resources
    return [
        *([f"--gpus={wanted.gpus}"] if wanted.gpus else []),
        *([f"--cpus-per-task={wanted.cpus}"] if wanted.cpus else []),
        *([f"--mem={round(wanted.memory_gib * 1024)}M"] if wanted.memory_gib else []),
    ]


def _watch(ticket: Ticket) -> str:
    """Stop before computing if Slurm began too early, and say so if it began late."""
    early = f"{ticket.launch.name} was planned for {utc(ticket.start_s)}: submit it again with TZ=UTC sbatch"
    return "".join(
        [
            comment([f"{ticket.start_s} is {utc(ticket.start_s)}."]),
            f"late=$(( $(date +%s) - {ticket.start_s} ))\n",
            f'if [ "$late" -lt -{_EARLY_S} ]; then\n',
            f'  echo "{early}; it came $(( -late )) s too early" >&2\n',
            "  exit 75\n",
            "fi\n",
            f'if [ "$late" -gt {ticket.start_within_s} ]; then\n',
            '  echo "it begins $late s after the planned time: the grid may be another by now" >&2\n',
            "fi\n",
        ]
    )


def _time(seconds: float) -> str:
    return f"{moment(seconds):%Y-%m-%dT%H:%M:%S}"


def _length(seconds: int) -> str:
    """Slurm's days-hours:minutes:seconds."""
    days, rest = divmod(seconds, 86_400)
    return f"{days}-{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"

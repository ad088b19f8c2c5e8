"""`k8s-job`: a suspended Job that holds no machine while it waits, and CronJobs that release and pause it.

Each CronJob is for one minute: it patches the Job, and only after that has worked it suspends itself. A
release that comes twice does no harm: patching a Job that runs or has ended changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_carbon.scheduling.manifests import kube
from mlflow_carbon.scheduling.manifests.text import comment, document, header, utc

if TYPE_CHECKING:
    from mlflow_carbon.scheduling.manifests.contract import Ticket

__all__ = ["how_to_apply", "render", "render_at_once"]

_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class _Boundary:
    at_s: int
    action: str
    name: str
    start_within_s: int


def render(ticket: Ticket) -> str:
    """Job, CronJobs and their rights, as YAML documents."""
    ticket.with_image("k8s-job")
    boundaries = _boundaries(ticket)
    if not boundaries:
        return render_at_once(ticket, "k8s-job")
    account = f"{ticket.launch.name}-release"
    cron_jobs = [b.name for b in boundaries]
    parts = [
        ([], kube.service_account(ticket, account)),
        (
            ["Only this Job and these CronJobs may be patched."],
            kube.role(ticket, account, jobs=[ticket.launch.name], cron_jobs=cron_jobs),
        ),
        ([], kube.binding(ticket, account, account)),
        (_job_notes(ticket), _job(ticket, is_suspended=not ticket.is_at_once)),
        *((_cron_notes(ticket, b), _releaser(ticket, b, account)) for b in boundaries),
    ]
    documents = [f"---\n{comment(notes)}{document(value)}" for notes, value in parts]
    return header(ticket, "k8s-job", how_to_apply(boundaries[0].at_s)) + "".join(documents)


def how_to_apply(first_s: float) -> str:
    """What to do with the file, and until when."""
    return f"Use: kubectl apply -f FILE, before {utc(first_s)}: cron fires next in a year if that has passed."


def render_at_once(ticket: Ticket, format_name: str) -> str:
    """A Job alone, which starts when it is applied."""
    return header(ticket, format_name, "Use: kubectl apply -f FILE; it starts then.") + (
        f"---\n{document(_job(ticket, is_suspended=False))}"
    )


def _boundaries(ticket: Ticket) -> list[_Boundary]:
    """Each release and pause still to come; the last stretch ends by itself."""
    times = [at for segment in ticket.segments for at in segment][:-1]
    actions = ["release", "pause"] * len(ticket.segments)
    found = [(at, action, i // 2 + 1) for i, (at, action) in enumerate(zip(times, actions, strict=False))]
    if ticket.is_at_once:
        found = found[1:]
    # A change that comes too late must not overtake the next one.
    following = [at for at, _, _ in found[1:]] + [math.inf]
    return [
        _Boundary(
            at_s=at,
            action=action,
            name=f"{ticket.launch.name}-{action}" + (f"-{number}" if len(times) > 1 else ""),
            start_within_s=max(60, int(min(ticket.start_within_s, later - at - 60))),
        )
        for (at, action, number), later in zip(found, following, strict=False)
    ]


def _job(ticket: Ticket, *, is_suspended: bool) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": kube.metadata(ticket, ticket.launch.name),
        "spec": {"suspend": is_suspended} | kube.job_spec(ticket),
    }


def _releaser(ticket: Ticket, boundary: _Boundary, account: str) -> dict[str, Any]:
    """The CronJob of one boundary: patch the Job, then suspend this CronJob, each again where it fails."""
    launch = ticket.launch
    change = kube.patch(
        launch, boundary.action, kind="job", name=launch.name, is_suspended=boundary.action == "pause"
    )
    close = kube.patch(launch, "suspend-this-cronjob", kind="cronjob", name=boundary.name, is_suspended=True)
    spec = {
        "backoffLimit": 10,
        "ttlSecondsAfterFinished": _DAY_S,
        "template": {
            "spec": {
                "serviceAccountName": account,
                "automountServiceAccountToken": True,
                "restartPolicy": "OnFailure",
                "initContainers": [change],
                "containers": [close],
            }
        },
    }
    return kube.cron_job(
        ticket, boundary.name, spec, at_s=boundary.at_s, start_within_s=boundary.start_within_s
    )


def _job_notes(ticket: Ticket) -> list[str]:
    notes = [kube.limit_note(ticket.launch)]
    if len(ticket.segments) > 1:
        notes.append(
            "It is paused by suspending the Job, which deletes its pod (SIGTERM, then 120 s). The command "
            "must save a checkpoint, go on from it when it is started again, and not end with 0 before "
            "it is done. The time limit starts anew with each release."
        )
    return notes


def _cron_notes(ticket: Ticket, boundary: _Boundary) -> list[str]:
    return [
        f"{boundary.action.capitalize()} at {utc(boundary.at_s)}. Cron knows no year: it suspends itself.",
        f"Any image with kubectl will do instead of {ticket.launch.kubectl_image}.",
    ]

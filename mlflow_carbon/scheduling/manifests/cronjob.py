"""`cronjob`: a CronJob that runs the training itself, once, and suspends itself before the training begins.

It suspends itself first, so that the training never runs again a year later; the price is that the training's
pod has two containers, of which only the first is given a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_carbon.scheduling.manifests import k8s_job, kube
from mlflow_carbon.scheduling.manifests.text import comment, document, header

if TYPE_CHECKING:
    from mlflow_carbon.scheduling.manifests.contract import Ticket

__all__ = ["render"]

_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a folder, where kubectl looks
_VOLUME = "cronjob-token"


def render(ticket: Ticket) -> str:
    """CronJob and its rights, as YAML documents."""
    ticket.with_image("cronjob")
    ticket.in_one_piece("cronjob")
    if ticket.is_at_once:
        return k8s_job.render_at_once(ticket, "cronjob")
    launch = ticket.launch
    right = f"{launch.name}-once"
    account = launch.service_account or right
    parts: list[tuple[list[str], dict[str, Any]]] = [
        *([] if launch.service_account else [([], kube.service_account(ticket, account))]),
        (["Only this CronJob may be patched."], kube.role(ticket, right, jobs=[], cron_jobs=[launch.name])),
        ([], kube.binding(ticket, right, account)),
        (_notes(ticket), _cron_job(ticket, account)),
    ]
    return header(ticket, "cronjob", k8s_job.how_to_apply(ticket.start_s)) + "".join(
        f"---\n{comment(notes)}{document(value)}" for notes, value in parts
    )


def _cron_job(ticket: Ticket, account: str) -> dict[str, Any]:
    """The training with a step before it that suspends the CronJob and alone is given the account's token."""
    launch = ticket.launch
    spec = kube.job_spec(ticket)
    # What fails before the training is tried again, the training is not.
    spec["backoffLimit"] = 6
    spec["podFailurePolicy"]["rules"].append(
        {"action": "FailJob", "onExitCodes": {"containerName": "train", "operator": "NotIn", "values": [0]}}
    )
    first = kube.patch(launch, "suspend-this-cronjob", kind="cronjob", name=launch.name, is_suspended=True)
    first["volumeMounts"] = [{"name": _VOLUME, "mountPath": _TOKEN_PATH, "readOnly": True}]
    pod = spec["template"]["spec"]
    spec["template"]["spec"] = pod | {
        "serviceAccountName": account,
        "initContainers": [first],
        "volumes": [{"name": _VOLUME, "projected": {"sources": _TOKEN}}],
    }
    return kube.cron_job(ticket, launch.name, spec, at_s=ticket.start_s, start_within_s=ticket.start_within_s)


_TOKEN: list[dict[str, Any]] = [
    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
]


def _notes(ticket: Ticket) -> list[str]:
    launch = ticket.launch
    return [
        "Cron knows no year: the first container suspends this CronJob, and only then the training begins.",
        f"Any image with kubectl will do instead of {launch.kubectl_image}.",
        kube.limit_note(launch),
    ]

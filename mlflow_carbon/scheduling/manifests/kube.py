"""The Kubernetes objects that the formats `k8s-job` and `cronjob` share, as plain values.

Who patches has no shell: an init container changes one field, the next container the other, and the kubelet
runs the second only after the first has succeeded. So nothing is quoted, and the image needs kubectl only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_carbon.scheduling.manifests.text import cron, utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_carbon.scheduling.manifests.contract import Launch, Resources, Ticket

__all__ = [
    "binding",
    "cron_job",
    "job_spec",
    "limit_note",
    "metadata",
    "patch",
    "role",
    "secured",
    "service_account",
]

_WEEK_S = 7 * 86_400
_NOBODY = 65532
_BATCH = "batch"
_RBAC = "rbac.authorization.k8s.io"


def metadata(ticket: Ticket, name: str) -> dict[str, Any]:
    """Name, place, and what it belongs to."""
    return {
        "name": name,
        "namespace": ticket.launch.namespace,
        "labels": {
            "app.kubernetes.io/name": ticket.launch.name,
            "app.kubernetes.io/managed-by": "mlflow-carbon",
        },
        "annotations": {
            "mlflow-carbon/planned-start": utc(ticket.start_s),
            "mlflow-carbon/zone": ticket.plan.zone or ticket.zone,
        },
    }


def service_account(ticket: Ticket, name: str) -> dict[str, Any]:
    """An account of its own, whose token no pod gets unasked."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(ticket, name),
        "automountServiceAccountToken": False,
    }


def role(ticket: Ticket, name: str, *, jobs: Sequence[str], cron_jobs: Sequence[str]) -> dict[str, Any]:
    """The right to read and patch the objects named, and no other."""
    rules = [
        {"apiGroups": [_BATCH], "resources": [kind], "resourceNames": list(names), "verbs": ["get", "patch"]}
        for kind, names in (("jobs", jobs), ("cronjobs", cron_jobs))
        if names
    ]
    return {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": metadata(ticket, name), "rules": rules}


def binding(ticket: Ticket, name: str, account: str) -> dict[str, Any]:
    """Who has the right of the role of this name."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata(ticket, name),
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": ticket.launch.namespace}],
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
    }


def patch(launch: Launch, step: str, *, kind: str, name: str, is_suspended: bool) -> dict[str, Any]:
    """A container that suspends or resumes an object; doing it twice does no harm."""
    value = "true" if is_suspended else "false"
    return {
        "name": step,
        "image": launch.kubectl_image,
        "command": [
            "kubectl",
            "patch",
            kind,
            name,
            f"--namespace={launch.namespace}",
            "--type=merge",
            f'--patch={{"spec":{{"suspend":{value}}}}}',
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": secured(_NOBODY) | {"readOnlyRootFilesystem": True},
    }


def secured(user_id: int) -> dict[str, Any]:
    """A container without privileges, as Kubernetes' profile `restricted` wants it."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": user_id != 0,
        "runAsUser": user_id,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def cron_job(
    ticket: Ticket, name: str, spec: dict[str, Any], *, at_s: float, start_within_s: int
) -> dict[str, Any]:
    """A CronJob for one minute. Cron knows no year: what it starts must suspend it."""
    return {
        "apiVersion": f"{_BATCH}/v1",
        "kind": "CronJob",
        "metadata": metadata(ticket, name),
        "spec": {
            "schedule": cron(at_s),
            "timeZone": "Etc/UTC",
            "startingDeadlineSeconds": start_within_s,
            "concurrencyPolicy": "Forbid",
            "suspend": False,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {"spec": spec},
        },
    }


def job_spec(ticket: Ticket) -> dict[str, Any]:
    """The training as a Job: not repeated if it fails, but if its node is taken away, and stopped if stuck.

    Each pause may count as one failure: a Job's pods are deleted then.
    """
    launch, pauses = ticket.launch, len(ticket.segments) - 1
    container = {
        "name": "train",
        "image": launch.image,
        "command": [_unexpanded(word) for word in launch.command],
        "resources": _resources(launch.resources),
        "securityContext": secured(launch.user_id),
    }
    pod: dict[str, Any] = {"restartPolicy": "Never"}
    if launch.service_account:
        pod["serviceAccountName"] = launch.service_account
    else:
        pod["automountServiceAccountToken"] = False
    if pauses:
        pod["terminationGracePeriodSeconds"] = 120
    return {
        "backoffLimit": pauses,
        "activeDeadlineSeconds": launch.limit_s,
        "ttlSecondsAfterFinished": _WEEK_S,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
            ]
        },
        "template": {"spec": pod | {"containers": [container]}},
    }


def limit_note(launch: Launch) -> str:
    """What the time limit of the training is, for those who read the manifest."""
    return (
        f"activeDeadlineSeconds stops the training if it hangs: estimated are {launch.duration_s:.0f} s, "
        "allowed half as long again."
    )


def _resources(wanted: Resources) -> dict[str, Any]:
    memory = {"memory": f"{round(wanted.memory_gib * 1024)}Mi"} if wanted.memory_gib else {}
    requests = ({"cpu": str(wanted.cpus)} if wanted.cpus else {}) | memory
    limits = memory | ({"nvidia.com/gpu": str(wanted.gpus)} if wanted.gpus else {})
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def _unexpanded(word: str) -> str:
    """The word as it stays itself: Kubernetes reads $(NAME) as a variable and $$ as $."""
    return word.replace("$", "$$") if "$(" in word or "$$" in word else word

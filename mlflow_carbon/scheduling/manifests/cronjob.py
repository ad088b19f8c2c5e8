"""`cronjob`: a CronJob that runs the training itself, once, and suspends itself before the training begins.

It suspends itself first, so that the training never runs again a year later; the price is that the training's
pod has two containers, of which only the first is given a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_carbon.scheduling.manifests import k8s_job, kube
from mlflow_carbon.scheduling.manifests.text import comment, document, header

if TYPE_CHECKING:
    from mlflow_carbon.scheduling.manifests.contract import Order

__all__ = ["render"]

_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a folder, where kubectl looks
_VOLUME = "cronjob-token"


def render(order: Order) -> str:
    """CronJob and its rights, as YAML documents."""
    order.with_image("cronjob")
    order.in_one_piece("cronjob")
    if order.is_at_once:
        return k8s_job.render_at_once(order, "cronjob")
    launch = order.launch
    right = f"{launch.name}-once"
    account = launch.service_account or right
    parts: list[tuple[list[str], dict[str, Any]]] = [
        *([] if launch.service_account else [([], kube.service_account(order, account))]),
        (["Only this CronJob may be patched."], kube.role(order, right, jobs=[], cron_jobs=[launch.name])),
        ([], kube.binding(order, right, account)),
        (_notes(order), _cron_job(order, account)),
    ]
    return header(order, "cronjob", k8s_job.how_to_apply(order.start_s)) + "".join(
        f"---\n{comment(notes)}{document(value)}" for notes, value in parts
    )


def _cron_job(order: Order, account: str) -> dict[str, Any]:
    """The training with a step before it that suspends the CronJob and alone is given the account's token."""
    launch = order.launch
    spec = kube.job_spec(order)
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
    return kube.cron_job(order, launch.name, spec, at_s=order.start_s, start_within_s=order.start_within_s)


_TOKEN: list[dict[str, Any]] = [
    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
]


def _notes(order: Order) -> list[str]:
    launch = order.launch
    return [
        "Cron knows no year: the first container suspends this CronJob, and only then the training begins.",
        f"Any image with kubectl will do instead of {launch.kubectl_image}.",
        kube.limit_note(launch),
    ]

"""A plan as what a cluster or a service understands. Pure: a ticket in, text out; nothing is applied here.

A new format is a function from a `Ticket` to text and an entry of `FORMATS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_carbon.scheduling.manifests import cronjob, github, k8s_job, slurm
from mlflow_carbon.scheduling.manifests.contract import Launch, Resources, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FORMATS", "Launch", "Resources", "Ticket"]

FORMATS: Mapping[str, Callable[[Ticket], str]] = {
    "cronjob": cronjob.render,
    "k8s-job": k8s_job.render,
    "slurm": slurm.render,
    "github": github.render,
}

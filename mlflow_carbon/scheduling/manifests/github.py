"""`github`: a GitHub Actions workflow that runs once, on the planned day of the planned year.

Its schedule knows no year, and GitHub may come late or not at all under load. So a first job compares the
whole date, and the training runs only if that says so, or if somebody starts the workflow by hand.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from mlflow_carbon.errors import SettingsError
from mlflow_carbon.scheduling.manifests.text import cron, document, header, hours, utc

if TYPE_CHECKING:
    from mlflow_carbon.scheduling.manifests.contract import Launch, Ticket

__all__ = ["render"]

_CHECKOUT = "actions/checkout@v4"
_HOSTED = ("ubuntu-", "windows-", "macos-")
_HOSTED_LIMIT_S = 6 * 3600


def render(ticket: Ticket) -> str:
    """The workflow, as YAML."""
    ticket.in_one_piece("github")
    launch = ticket.launch
    _check(launch)
    file = f".github/workflows/{launch.name}.yml"
    jobs = (
        {"train": _train(launch)} if ticket.is_at_once else {"due": _due(ticket), "train": _when_due(launch)}
    )
    value = {
        "name": launch.name,
        "on": _events(ticket, file),
        "permissions": {"contents": "read"},
        "concurrency": {"group": launch.name, "cancel-in-progress": False},
        "jobs": jobs,
    }
    return header(ticket, "github", *_notes(ticket, file)) + document(value)


def _check(launch: Launch) -> None:
    if launch.runner.startswith(_HOSTED) and launch.duration_s >= _HOSTED_LIMIT_S:
        raise SettingsError(
            f"github: expected less than {hours(_HOSTED_LIMIT_S)} on a runner of GitHub, got "
            f"{hours(launch.duration_s)}; name a runner of your own, or use k8s-job or slurm"
        )
    if launch.resources.gpus and launch.runner.startswith(_HOSTED):
        raise SettingsError(
            f"github: expected a runner with {launch.resources.gpus} GPUs, got {launch.runner}; name your own"
        )


def _notes(ticket: Ticket, file: str) -> list[str]:
    if ticket.is_at_once:
        return [f"Use: commit it as {file}; pushing that file starts it. Delete it afterwards."]
    return [
        f"Use: commit it as {file} on the default branch before {utc(ticket.start_s)}; delete it afterwards.",
        "GitHub's schedules know no year, are often minutes late and may be dropped under load.",
        f"It runs if they come within {ticket.start_within_s // 60} min of that time, or by hand.",
    ]


def _events(ticket: Ticket, file: str) -> dict[str, Any]:
    if ticket.is_at_once:
        return {"push": {"paths": [file]}, "workflow_dispatch": {}}
    return {"schedule": [{"cron": cron(ticket.start_s)}], "workflow_dispatch": {}}


def _due(ticket: Ticket) -> dict[str, Any]:
    """A short job that compares the whole date, so that the training's runner is not started in vain."""
    script = (
        f"late=$(( $(date -u +%s) - {ticket.start_s} ))  # {utc(ticket.start_s)}\n"
        "run=false\n"
        f'if [ "$late" -ge 0 ] && [ "$late" -le {ticket.start_within_s} ]; then run=true; fi\n'
        'if [ "$EVENT" = workflow_dispatch ]; then run=true; fi\n'
        f'echo "::notice::planned for {utc(ticket.start_s)}, $late s ago; run: $run"\n'
        'echo "run=$run" >> "$GITHUB_OUTPUT"\n'
    )
    return {
        "runs-on": "ubuntu-latest",
        "timeout-minutes": 5,
        "permissions": {},
        "outputs": {"run": "${{ steps.date.outputs.run }}"},
        "steps": [
            {
                "id": "date",
                "name": "Is it the planned day of the planned year?",
                "shell": "bash",
                "env": {"EVENT": "${{ github.event_name }}"},
                "run": script,
            }
        ],
    }


def _when_due(launch: Launch) -> dict[str, Any]:
    return {"needs": "due", "if": "needs.due.outputs.run == 'true'"} | _train(launch)


def _train(launch: Launch) -> dict[str, Any]:
    limit_s = min(launch.limit_s, _HOSTED_LIMIT_S) if launch.runner.startswith(_HOSTED) else launch.limit_s
    return {
        "runs-on": launch.runner,
        **({"container": {"image": launch.image}} if launch.image else {}),
        "timeout-minutes": limit_s // 60,
        "steps": [
            {"uses": _CHECKOUT, "with": {"persist-credentials": False}},
            {
                "name": "Train",
                "shell": "sh" if launch.image else "bash",
                "run": f"{_literal(launch.command)}\n",
            },
        ],
    }


def _literal(command: tuple[str, ...]) -> str:
    """The command for a shell, with quotes inside each ${{, which GitHub would replace before that."""
    return shlex.join(command).replace("${{", "$''{{")

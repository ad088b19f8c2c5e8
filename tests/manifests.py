"""Plans and launches for tests of manifests, and what reads manifests: loaders, a kubelet and a kubectl of our own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from ruamel.yaml import YAML

from mlflow_carbon.core.plans import Plan
from mlflow_carbon.scheduling.manifests import Launch, Ticket

if TYPE_CHECKING:
    from pathlib import Path

START_S = 1_795_485_600  # 2026-11-24T02:00Z, a Tuesday
HOUR_S = 3600
NOW_S = START_S - 10 * HOUR_S
PAUSES = ((START_S, START_S + 2 * HOUR_S), (START_S + 4 * HOUR_S, START_S + 6 * HOUR_S))


def plan(*segments: tuple[int, int], is_now: bool = False, **changes: Any) -> Plan:
    """A plan of four hours from START_S on, or in these stretches; it saves 23 %, between 10 and 35."""
    stretches = segments or ((START_S, START_S + 4 * HOUR_S),)
    values: dict[str, Any] = {
        "policy": "window",
        "start_s": stretches[0][0],
        "segments": stretches,
        "is_now": is_now,
        "now_gco2e": 1000.0,
        "planned_gco2e": 1000.0 if is_now else 770.0,
        "planned_low_gco2e": 1000.0 if is_now else 650.0,
        "planned_high_gco2e": 1000.0 if is_now else 900.0,
        "reason": "the cleanest 4 h within the wait",
        "source": "own history",
    }
    return Plan(**(values | changes))


def launch(**changes: Any) -> Launch:
    """A training of four hours."""
    values: dict[str, Any] = {
        "name": "mnist",
        "image": "registry.example/train:1.0",
        "command": ("python", "-m", "train"),
        "duration_s": 4 * HOUR_S,
    }
    return Launch(**(values | changes))


def ticket(made: Plan | None = None, *, now_s: float = NOW_S, **changes: Any) -> Ticket:
    """An ticket by a plan made ten hours before its start."""
    return Ticket(plan=made or plan(), launch=launch(**changes), zone="GB", now_s=now_s)


def documented() -> Ticket:
    """The ticket whose manifests the documentation shows."""
    return ticket(command=("python", "-m", "projects.mnist.train", "--epochs", "14"))


def documents(text: str) -> list[dict[str, Any]]:
    """The documents of a manifest, by a reader of YAML 1.1."""
    return list(yaml.safe_load_all(text))


def documents_1_2(text: str) -> list[dict[str, Any]]:
    """The same by a reader of YAML 1.2."""
    return list(YAML(typ="safe", pure=True).load_all(text))


def of_kind(text: str, kind: str) -> list[dict[str, Any]]:
    """The Kubernetes objects of a kind."""
    return [found for found in documents(text) if found["kind"] == kind]


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod that a Job or a CronJob starts."""
    spec = manifest["spec"]
    found: dict[str, Any] = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
    return found


def expand(word: str) -> str:
    """What Kubernetes makes of a word of a command: $$ is $, $(NAME) a variable; here each has the value ``?``."""
    done, rest = "", word
    while "$" in rest:
        before, _, rest = rest.partition("$")
        done += before
        if rest.startswith("$"):
            done, rest = f"{done}$", rest[1:]
        elif rest.startswith("(") and ")" in rest:
            done, rest = f"{done}?", rest.partition(")")[2]
        else:
            done += "$"
    return done + rest


@dataclass(frozen=True)
class Cluster:
    """A folder with a `kubectl` that keeps `kind/name.suspend`, refuses names it was told to, and logs its calls."""

    folder: Path

    def start(self) -> Cluster:
        """Put the program there."""
        kubectl = self.folder / "kubectl"
        kubectl.write_text(_KUBECTL, encoding="utf-8")
        kubectl.chmod(0o755)
        return self

    def refuse(self, kind: str) -> None:
        """Let patches of a kind fail from now on."""
        (self.folder / f"refuse-{kind}").touch()

    def allow(self, kind: str) -> None:
        """Let them pass again."""
        (self.folder / f"refuse-{kind}").unlink()

    def suspended(self, kind: str, name: str) -> str:
        """What was last patched into an object's `suspend`; empty if nothing."""
        path = self.folder / f"{kind}-{name}"
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    def run_pod(self, pod: dict[str, Any]) -> bool:
        """Run its containers as a kubelet does: in order, init first, none after one that failed."""
        steps = [*pod.get("initContainers", []), *pod["containers"]]
        env = {"PATH": f"{self.folder}:{os.environ['PATH']}", "FOLDER": str(self.folder)}
        return all(
            subprocess.run([expand(word) for word in step["command"]], env=env, check=False).returncode == 0
            for step in steps
        )


_KUBECTL = """#!/bin/sh
echo "$@" >> "$FOLDER/calls"
[ "$1" = patch ] && [ "$4" = --namespace=default ] && [ "$5" = --type=merge ] || exit 64
[ -e "$FOLDER/refuse-$2" ] && exit 1
case "$6" in
  '--patch={"spec":{"suspend":true}}') echo true > "$FOLDER/$2-$3" ;;
  '--patch={"spec":{"suspend":false}}') echo false > "$FOLDER/$2-$3" ;;
  *) exit 65 ;;
esac
"""

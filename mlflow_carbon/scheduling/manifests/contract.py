"""What is to be launched, and the ticket that a renderer gets. Checked here, once, for every format.

Times are UTC seconds since the epoch, and every manifest says its times in UTC.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow_carbon.errors import SettingsError

if TYPE_CHECKING:
    from mlflow_carbon.core.plans import Plan

__all__ = ["KUBECTL_IMAGE", "Launch", "Resources", "Ticket"]

KUBECTL_IMAGE = "registry.k8s.io/kubectl:v1.36.0"
"""The Kubernetes project's own image: kubectl and nothing else, not even a shell."""

_SOON_S = 120
"""A start nearer than this is made at once: nobody applies a manifest faster for sure."""
_YEAR_S = 365 * 86_400
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][\w.:/@-]*", re.ASCII)
_RUNNER = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_NAME_MAX = 40
"""CronJobs may have 52 characters, and the longest suffix here is `-release-99`."""
_LABEL_MAX = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What it needs of a machine; 0 where nothing is asked for.

    Attributes:
        gpus: Number of GPUs (on Kubernetes `nvidia.com/gpu`).
        cpus: Number of CPU cores.
        memory_gib: Main memory in GiB.
    """

    gpus: int = 0
    cpus: int = 0
    memory_gib: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gpus", "cpus", "memory_gib"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingsError(
                    f"{name}: expected 0 or more, got {getattr(self, name)}; 0 asks for nothing"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be started, and where.

    Attributes:
        name: Name of the job: a DNS-1123 label of at most 40 characters.
        command: Program and arguments, word by word. No shell reads them.
        duration_s: How long it runs, estimated.
        image: Container image; Kubernetes needs one.
        namespace: Kubernetes namespace.
        service_account: Kubernetes service account of the training; empty: one without rights.
        user_id: User of the training's container; 0 is root.
        resources: What it needs of a machine.
        start_within_s: How late it may still start, where the format can say so.
        finish_by_s: When it must have ended; None where that does not matter.
        kubectl_image: Image with `kubectl` that releases it.
        runner: Label of the GitHub runner.
    """

    name: str
    command: tuple[str, ...]
    duration_s: float
    image: str = ""
    namespace: str = "default"
    service_account: str = ""
    user_id: int = 1000
    resources: Resources = field(default_factory=Resources)
    start_within_s: int = 3600
    finish_by_s: float | None = None
    kubectl_image: str = KUBECTL_IMAGE
    runner: str = "ubuntu-latest"

    def __post_init__(self) -> None:
        _label("name", self.name, _NAME_MAX)
        _label("namespace", self.namespace, _LABEL_MAX)
        if self.service_account:
            _label("service_account", self.service_account, _LABEL_MAX)
        _words(self.command)
        if self.image:
            _matches("image", self.image, _IMAGE, "like registry.example/train:1.0")
        _matches("kubectl_image", self.kubectl_image, _IMAGE, f"like {KUBECTL_IMAGE}")
        _matches("runner", self.runner, _RUNNER, "the label of one, like ubuntu-latest")
        if not 0 < self.duration_s < _YEAR_S:
            raise SettingsError(
                f"duration_s: expected above 0 and less than a year, got {self.duration_s}; give an estimate"
            )
        if not 60 <= self.start_within_s <= _YEAR_S // 12:  # noqa: PLR2004 - cron knows no less than a minute
            raise SettingsError(
                f"start_within_s: expected a minute to a month, got {self.start_within_s}; an hour is usual"
            )
        if self.user_id < 0:
            raise SettingsError(f"user_id: expected 0 (root) or more, got {self.user_id}")

    @property
    def limit_s(self) -> int:
        """When it is stopped as stuck: half as long again as estimated, and at least 10 min more."""
        return _minute(max(1.5 * self.duration_s, self.duration_s + 600))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """To launch something by a plan; what every format is made from.

    Attributes:
        plan: When to run.
        launch: What to run.
        zone: The grid zone that was planned for.
        now_s: When the plan was made.
    """

    plan: Plan
    launch: Launch
    zone: str
    now_s: float

    def __post_init__(self) -> None:
        first, end = self.plan.segments[0]
        pauses = len(self.plan.segments) > 1
        # A pause within two minutes would be missed as a start would.
        over = end - _SOON_S if pauses else end if self.plan.is_now else first
        if over < self.now_s:
            raise SettingsError(
                f"plan: expected a start in the future, got one {self.now_s - first:.0f} s ago; plan again"
            )
        if first - self.now_s > _YEAR_S // 2:
            raise SettingsError("plan: expected a start within half a year: cron knows no year; plan again")
        finish_by_s = self.launch.finish_by_s
        if finish_by_s is not None and self.end_s - 60 > finish_by_s:
            raise SettingsError(
                f"finish_by_s: expected after the plan's end, got {self.end_s - finish_by_s:.0f} s early; "
                "plan with the deadline, or give a shorter duration"
            )

    @property
    def is_at_once(self) -> bool:
        """Whether it starts as soon as the manifest is applied."""
        return self.plan.is_now or self.plan.start_s < self.now_s + _SOON_S

    @property
    def segments(self) -> tuple[tuple[int, int], ...]:
        """Stretches to run, at whole minutes: cron knows no seconds, and never earlier than planned."""
        return tuple((_minute(first), _minute(end)) for first, end in self.plan.segments)

    @property
    def start_s(self) -> int:
        """The start, at a whole minute; of a start at once, the time it was planned."""
        return _minute(self.now_s) if self.is_at_once else self.segments[0][0]

    @property
    def end_s(self) -> float:
        """When it is expected to end."""
        if len(self.segments) > 1:
            return self.segments[-1][1]
        return self.start_s + self.launch.duration_s

    @property
    def start_within_s(self) -> int:
        """How late it may start and still end in time; a minute at least."""
        allowed = float(self.launch.start_within_s)
        if self.launch.finish_by_s is not None:
            allowed = min(allowed, self.launch.finish_by_s - self.end_s)
        return max(60, int(allowed))

    def in_one_piece(self, format_name: str) -> None:
        """Refuse a plan with pauses.

        Raises:
            SettingsError: If it has any.
        """
        if len(self.plan.segments) > 1:
            raise SettingsError(
                f"{format_name}: expected a plan in one piece, got one in {len(self.plan.segments)}; "
                "use k8s-job, which can pause, or the policy window"
            )

    def with_image(self, format_name: str) -> None:
        """Refuse a launch without an image.

        Raises:
            SettingsError: If there is none.
        """
        if not self.launch.image:
            raise SettingsError(
                f"{format_name}: expected a container image, got none; name one with the code in it"
            )


def _minute(seconds: float) -> int:
    return math.ceil(seconds / 60) * 60


def _label(name: str, text: str, most: int) -> None:
    if not _LABEL.fullmatch(text) or len(text) > most:
        raise SettingsError(
            f"{name}: expected at most {most} of a-z, 0-9 and -, no - at the ends, got {text!r}; rename it"
        )


def _matches(name: str, text: str, pattern: re.Pattern[str], example: str) -> None:
    if not pattern.fullmatch(text):
        raise SettingsError(f"{name}: expected {example}, got {text!r}")


def _words(command: tuple[str, ...]) -> None:
    if not command or not command[0]:
        raise SettingsError(f"command: expected a program and its arguments as words, got {command!r}")
    for word in command:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise SettingsError(f"command: expected text, got {word!r}; write it in UTF-8") from error
        if "\0" in word:
            raise SettingsError(f"command: expected no NUL, got {word!r}; no system passes it on")

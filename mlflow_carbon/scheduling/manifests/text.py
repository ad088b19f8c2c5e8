"""How manifests are written: the comment at their head, times, and YAML that every reader reads alike."""

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from mlflow_carbon._version import __version__
from mlflow_carbon.core.times import minute as utc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_carbon.scheduling.manifests.contract import Ticket

__all__ = ["comment", "cron", "document", "header", "hours", "moment", "utc"]

_WIDTH = 100
_NO_WRAP = 2**31
# Some readers take 1e-3, 0o7, y or 1:30 for a number or a truth value, others do not; quoted, all see text.
_PLAIN = re.compile(r"[A-Za-z/][\w./ -]*[\w/]", re.ASCII)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - an anchor would only puzzle a reader
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyYAML's
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    if _PLAIN.fullmatch(text):
        return None
    if text.isprintable():
        return "'"
    # Readers make a line end of their own of each that stands in a block: there, \n alone is safe.
    is_block = text.isascii() and text.replace("\n", "").isprintable()
    return "|" if is_block else '"'


_Dumper.add_representer(str, _text)


def document(value: dict[str, Any]) -> str:
    """One YAML document, in the order given, with quotes where a text could be taken for something else."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_NO_WRAP, default_flow_style=False
    )


def comment(lines: Iterable[str]) -> str:
    """Comment lines of YAML or a shell, whatever characters the text has."""
    wrapped = [
        part
        for line in lines
        for part in textwrap.wrap(
            " ".join("".join(c if c.isprintable() else " " for c in line).split()), _WIDTH
        )
    ]
    return "".join(f"# {line}\n" for line in wrapped)


def header(ticket: Ticket, format_name: str, *notes: str) -> str:
    """The comment at the head: what was planned, where, what it should save, and on whose word."""
    plan = ticket.plan
    start = "at once" if ticket.is_at_once else f"at {utc(ticket.start_s)}"
    pauses = "" if len(plan.segments) == 1 else f", in {len(plan.segments)} pieces, until {utc(ticket.end_s)}"
    source = plan.source.removeprefix("forecast of ").replace("our forecast", "us", 1)
    saving = (
        "Starting at once is what others are compared with: no saving is expected."
        if plan.is_now
        else f"Expected saving against starting at once: {plan.saving_ratio:.1%}, between "
        f"{plan.saving_low_ratio:.1%} and {plan.saving_high_ratio:.1%} (95 %), modelled from a forecast by "
        f"{source}, made {utc(ticket.now_s)}; not measured."
    )
    return comment(
        [
            f"{ticket.launch.name}: starts {start}{pauses}, for about {hours(ticket.launch.duration_s)}.",
            f"Zone: {plan.zone or ticket.zone}. {saving}",
            f"Why: policy {plan.policy}, {plan.reason}.",
            *([f"Warning: {plan.warning}."] if plan.warning else []),
            f"Made {utc(ticket.now_s)} by mlflow-carbon {__version__}, plan --format {format_name}; in UTC.",
            *notes,
        ]
    )


def moment(seconds: float) -> datetime:
    """A time in UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def cron(seconds: float) -> str:
    """The five fields of cron that fit this minute of every year."""
    at = moment(seconds)
    return f"{at.minute} {at.hour} {at.day} {at.month} *"


def hours(seconds: float) -> str:
    """A length to read."""
    return f"{seconds / 3600:.4g} h"

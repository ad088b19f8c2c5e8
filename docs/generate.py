"""Writes the pages under `docs/reference/` that are made from the code.

Usage: python docs/generate.py           write them
       python docs/generate.py --check   exit 1 if one is out of date (a test does this)
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, is_typeddict

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # so that it also runs where the package is not installed

import mlflow_carbon  # noqa: E402 - needs the line above
from mlflow_carbon import provenance  # noqa: E402 - as above
from mlflow_carbon.core.footprint import RunFootprint  # noqa: E402 - as above

_HEAD = """\
# Keys, tags and fields

<!-- Made by docs/generate.py from RunFootprint and the table of tags; do not edit. -->

A number that does not apply is not logged, never zero. *Low* and *high* are the ends of a 95 % range; how it
comes about is in [uncertainty](../explanation/uncertainty.md). Why these keys:
[decision 0003](../decisions/0003-keys-and-tags.md).

## The summary: `carbon/<field>`, step 0

Logged again about every 30 s and at the end, so the last value is the figure of the run. *Default* metrics
are always logged, the others with `detail=True`; all are in `carbon/footprint.json` and in `RunFootprint`.
"""

_SERIES_HEAD = """\
## Over time and over training steps

`carbon/time/<x>` has the elapsed whole seconds of the run as its step; a resumed run continues. A point comes
every 5 s in the first ten minutes, then every 10 s, doubling beyond 2000 points. `carbon/step/<x>` is logged
by `log_step()` at the training step it is given. Where the trainer waited for a cleaner grid, it adds what is
under [planned runs](#planned-runs).

Points are sent in batches: every 5 s at first and less often as a run goes on, at most 30 s apart, since each
call costs the store milliseconds of CPU. On disk each reading is at once
([what happens on failure](../decisions/0007-what-happens-on-failure.md)).
"""

_NODES_HEAD = """\
## On several machines

In mid-run the summary stands under the key of each machine, for the first 16 of them. `carbon/<field>` is the
sum of those that have finished; the series over time and over steps are of the first machine. `<k>` is the
index that the launcher gives, from 0, else a hashed name of the host. Why:
[decision 0016](../decisions/0016-several-machines.md).

`carbon/nodes.json` holds all machines side by side, `carbon/nodes/<k>.json` what one of them has stored, and
`carbon/nodes/<k>/` its other files.
"""

_PLANNED_HEAD = """\
## Planned runs

Of a run that waited through the [project backend](../how-to/run-when-clean.md). A plan's saving comes from a
forecast, the metrics from intensities of the time after it; `carbon.plan.outcome` says how final these are.
By an annual figure nothing but that and the wait is logged. `carbon/plan.json` has it all. The trainer logs
the same without that file; its first two intensities are those of its wait's first and last slot. Why:
[decision 0022](../decisions/0022-project-backend.md).
"""

PLANNED = (
    ("carbon/wait_s", "s", "from the submission to the start"),
    (
        "carbon/intensity_initial_gco2e_per_kwh",
        "gCO2e/kWh",
        "mean of the run, had it started at once",
    ),
    ("carbon/intensity_training_gco2e_per_kwh", "gCO2e/kWh", "mean of the run as it was"),
    ("carbon/intensity_oracle_gco2e_per_kwh", "gCO2e/kWh", "mean of the run at the best start there was"),
    ("carbon/saving_ratio", "ratio", "saved against starting at once, idling counted; negative as it is"),
    ("carbon/saving_oracle_ratio", "ratio", "what the best start would have saved"),
)

PLAN_TAGS = (
    ("carbon.plan.policy", "which policy planned"),
    ("carbon.plan.start", "planned start, UTC"),
    ("carbon.plan.end", "planned end, UTC, by the duration that was given"),
    ("carbon.plan.saving_ratio", "expected saving and its 95 % range, from the forecast"),
    ("carbon.plan.reason", "why then"),
    ("carbon.plan.source", "who made the forecast"),
    ("carbon.plan.zone", "where it runs"),
    ("carbon.plan.outcome", "how final the metrics are, or why it did not run"),
)

_LABELS_HEAD = """\
## Labels

Text fields of `RunFootprint` and `carbon/footprint.json`: how the numbers were got.
"""

_TAGS_HEAD = """\
## Tags

The most important first. A tag is set where it applies; those of the checkout and the machine
(`carbon.git.*`, `carbon.host.*`) are cut to the ten that come first. The full record of these is in
`carbon/environment.json`.
"""

SERIES = (
    ("carbon/time/power_w", "W", "mean power since the point before"),
    ("carbon/time/energy_kwh", "kWh", "energy so far"),
    ("carbon/time/emissions_gco2e", "gCO2e", "operational emissions so far"),
    ("carbon/time/intensity_gco2e_per_kwh", "gCO2e/kWh", "grid intensity, where a live provider gives one"),
    ("carbon/step/energy_kwh", "kWh", "energy so far"),
    ("carbon/step/emissions_gco2e", "gCO2e", "operational emissions so far"),
)

NODES = (
    ("carbon/node_<k>/energy_kwh", "kWh", "IT energy of machine `<k>`"),
    ("carbon/node_<k>/emissions_gco2e", "gCO2e", "its operational emissions"),
)

TAGS = {
    "carbon.kind": "`run` for a measured run",
    "carbon.error": "what went wrong, in words; absent if nothing did",
    "carbon.basis": "`measured`, `modelled` or `mixed`",
    "carbon.quality": "lowest level that holds at least 10 % of the energy: L0 model to L3 energy counter",
    "carbon.verdict": "`ok` or `warn`",
    "carbon.schema": "version of keys and documents",
    "carbon.shared": "`true` where other runs were measured on this machine at the same time",
    "carbon.nodes": "`3 of 4`: of how many of its machines the figures are, where a training has several",
    "carbon.grid.zone": "grid zone; of a run resumed in another zone, that of the last part",
    "carbon.grid.provider": "who says how clean the grid was",
    "carbon.grid.kind": "weakest kind of intensity used: `static`, `forecast`, `estimated` or `actual`",
    "carbon.grid.zone_source": "how the zone was found",
    "carbon.dataset": "what the run was trained on (set by the trainer)",
    "carbon.functional_unit": "what was counted: image, token, sample",
    "carbon.git.commit": "commit of the working directory",
    "carbon.git.dirty": "whether tracked files had changed",
    "carbon.host.cpu": "CPU model, threads, memory",
    "carbon.host.gpu": "GPUs and their driver",
    "carbon.pue.source": "where the PUE comes from: a setting, `default`, or `aws 2025, us-east-1`",
    "carbon.git.branch": "branch of the working directory",
    "carbon.host.torch": "version and build of torch",
    "carbon.host.python": "version of Python",
    "carbon.host.container": "kind of container, if any",
    "carbon.host.kernel": "kernel of the operating system",
    "carbon.host.packages": "hash of the installed packages and their versions",
    "carbon.fingerprint": "reserved: nothing sets it yet",
}


_API_HEAD = """\
# The Python API

<!-- Made by docs/generate.py from signatures and docstrings; do not edit. -->

All of `import mlflow_carbon`; others may change. `**overrides` are the [settings](../how-to/settings.md)
by name. The fields of `RunFootprint` are in [keys](keys.md), examples in the [README](../../README.md).
"""

API = {
    "Measure": ("autolog", "track"),
    "Inside a measured run": ("phase", "count", "log_step", "snapshot", "flush"),
    "Wait for a cleaner grid": ("wait_until_clean", "WaitOptions", "Wait", "Progress", "Saving"),
    "Figures": ("RunFootprint",),
    "Errors": ("CarbonError", "SettingsError", "ZoneError"),
}

_WIDTH = 88
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns):$")
_ENTRY = re.compile(r"^ {4}([\w*]+): (.*)$")


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is the head."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *body)) + "\n"


def signature(name: str, value: Any) -> str:
    """The call as a user types it, one parameter a line where it is long."""
    if isinstance(value, type) and issubclass(value, Exception):
        return f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
    if is_typeddict(value):  # its docstring lists the keys
        return f"class {name}(TypedDict, total=False): ..."
    found = inspect.signature(value)
    if isinstance(value, type):
        found = found.replace(return_annotation=inspect.Signature.empty)
    line = name + str(found).replace("'", "")  # annotations are text, and would be quoted
    if len(line) <= _WIDTH:
        return line
    returns = line[line.rindex(")") :]
    words = [str(p).replace("'", "") for p in found.parameters.values()]
    first = next((i for i, p in enumerate(found.parameters.values()) if p.kind is p.KEYWORD_ONLY), None)
    if first is not None:
        words.insert(first, "*")
    return "\n".join([f"{name}(", *(f"    {word}," for word in words), returns])


def prose(docstring: str) -> Iterator[str]:
    """A Google-style docstring as Markdown: sections become lists."""
    is_list = False
    for line in inspect.cleandoc(docstring).splitlines():
        item = _ENTRY.match(line) if is_list else None
        if _SECTION.match(line):
            is_list = True
            yield f"**{line.removesuffix(':')}**\n"
        elif item:
            yield f"- `{item[1]}`: {item[2]}"
        else:
            yield f"  {line.strip()}".rstrip() if is_list else line


def methods(value: Any) -> Iterator[str]:
    """A list of the public methods of a class; nothing for other things."""
    for name, member in vars(value).items() if isinstance(value, type) else ():
        if inspect.isfunction(member) and not name.startswith("_"):
            yield f"- `{signature(name, member).replace('(self)', '()')}`: {inspect.getdoc(member)}"


def entry(name: str) -> Iterator[str]:
    """The part of the page about one public name."""
    value = getattr(mlflow_carbon, name)
    yield f"### `{name}`\n"
    if value is not RunFootprint:  # its many fields have a page of their own
        yield f"```python\n{signature(name, value)}\n```\n"
    yield from prose(value.__doc__)
    if found := list(methods(value)):
        yield from ("\n**Methods**\n", *found)
    yield ""


def api_page() -> str:
    """The reference of the public names, from their own signatures and docstrings."""
    lines = [_API_HEAD]
    for heading, names in API.items():
        lines += [f"## {heading}\n", *(line for name in names for line in entry(name))]
    return "\n".join(lines).rstrip() + "\n"


def keys_page() -> str:
    """The reference of keys, from the fields' own metadata and the order of the tags."""
    specs = fields(RunFootprint)
    numbers = [f for f in specs if f.metadata["unit"]]
    labels = [f for f in specs if not f.metadata["unit"]]
    return "\n".join(
        (
            _HEAD,
            table(
                ("Metric", "Unit", "Meaning", "Default"),
                *(
                    (
                        f"`carbon/{f.name}`",
                        f.metadata["unit"],
                        f.metadata["help"],
                        "yes" if f.metadata["metric"] else "",
                    )
                    for f in numbers
                ),
            ),
            _SERIES_HEAD,
            table(("Metric", "Unit", "Meaning"), *((f"`{key}`", unit, text) for key, unit, text in SERIES)),
            _NODES_HEAD,
            table(("Metric", "Unit", "Meaning"), *((f"`{key}`", unit, text) for key, unit, text in NODES)),
            _PLANNED_HEAD,
            table(("Metric", "Unit", "Meaning"), *((f"`{k}`", unit, text) for k, unit, text in PLANNED)),
            table(("Tag", "Meaning"), *((f"`{tag}`", text) for tag, text in PLAN_TAGS)),
            _TAGS_HEAD,
            table(("Tag", "Meaning"), *((f"`{tag}`", TAGS[tag]) for tag in provenance.TAGS)),
            _LABELS_HEAD,
            table(("Field", "Meaning"), *((f"`{f.name}`", f.metadata["help"]) for f in labels)),
        )
    )


PAGES = {Path("docs/reference/keys.md"): keys_page, Path("docs/reference/api.md"): api_page}


def main(arguments: list[str]) -> int:
    """Write or check; the exit code."""
    stale = 0
    for path, page in PAGES.items():
        target, text = ROOT / path, page()
        if "--check" not in arguments:
            target.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
        elif not target.exists() or target.read_text(encoding="utf-8") != text:
            print(f"{path} is out of date: run `make docs` and commit the result", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

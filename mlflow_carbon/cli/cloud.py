"""`mlflow-carbon cloud import`: a provider's own carbon export, and our runs beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon import cloud
from mlflow_carbon import settings as setup
from mlflow_carbon.cloud.beside import WHY_THEY_DIFFER

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from mlflow_carbon.cli.measured import Found
    from mlflow_carbon.cloud import BesideRow, Export, Line

__all__ = ["add", "render"]


_WORDS = 2  # columns that are no numbers
_WHOLE = 1000


def add(commands: Any) -> None:
    """Declare the command."""
    group = commands.add_parser("cloud", help="carbon figures of a cloud provider beside ours")
    verbs = group.add_subparsers(metavar="verb", required=True, parser_class=type(group))
    parser = verbs.add_parser("import", help="read a provider's carbon export; nothing is stored")
    parser.add_argument("file", type=Path, metavar="FILE.csv", help="export of AWS, Google Cloud or Azure")
    parser.add_argument("--month", default="", help="month of an export that does not say it, as in 2025-04")
    ours = parser.add_mutually_exclusive_group()
    ours.add_argument("--experiment", metavar="NAME", help="put the measured runs of an experiment beside it")
    ours.add_argument("--run", metavar="RUN_ID", help="put one measured run beside it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    export = cloud.read(options.file, month=options.month)
    is_compared = options.experiment is not None or options.run is not None
    found = _measured(options.experiment, options.run) if is_compared else None
    rows = cloud.beside(export.lines, found.runs if found else (), zone_of=_zone_of)
    notes = (*export.notes, *(found.notes if found else ()), *_left_out(export, found))
    if options.json:
        print(json.dumps(_as_dict(export, rows, notes), indent=2))
    else:
        print(render(export, rows, notes, is_compared=is_compared))
    return 1 if is_compared and not any(row.runs for row in rows) else 0


def _measured(experiment: str | None, run_id: str | None) -> Found:
    from mlflow_carbon.cli import measured  # imports MLflow

    return measured.of_run(run_id) if run_id is not None else measured.of_experiment(experiment or "")


def _zone_of(provider: str, region: str) -> str:
    from mlflow_carbon.grid import regions

    return regions.zone_of(provider, regions.known(provider, region))


def _left_out(export: Export, found: Found | None) -> list[str]:
    months = {line.month for line in export.lines}
    missing = [run for run in found.runs if run.month not in months] if found else []
    return [f"{len(missing)} run(s) of months that the export does not have are left out"] if missing else []


def render(
    export: Export, rows: Sequence[BesideRow], notes: Sequence[str], *, is_compared: bool = False
) -> str:
    """The export by month and grid zone as text, with our runs where they are compared."""
    accounts = {line.account for line in export.lines if line.account}
    head = [
        "month",
        "zone",
        "location",
        "market",
        "scope 2",
        *(("runs", "kWh", "ours") if is_compared else ()),
    ]
    table = [head, *(_cells(row, is_compared=is_compared) for row in rows)]
    widths = [max(len(line[n]) for line in table) for n in range(len(head))]
    lines = [
        f"{export.shape.name}: {len(export.lines)} figures, {len(accounts)} account(s)",
        "in kgCO2e: the provider's total by the location-based and the market-based method, and of the "
        "first scope 2" + ("; ours operational, location-based" if is_compared else ""),
        "",
    ]
    for row, cells in zip([None, *rows], table, strict=True):
        shown = [
            f"{c:<{w}}" if n < _WORDS else f"{c:>{w}}"
            for n, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join([*shown, "regions" if row is None else ", ".join(row.regions) or "-"]))
    lines += ["", *notes] if notes else []
    if is_compared:
        lines += ["", "The two are not expected to agree:", *(f"- {reason}" for reason in WHY_THEY_DIFFER)]
    return "\n".join(lines)


def _cells(row: BesideRow, *, is_compared: bool) -> list[str]:
    cells = [
        row.month,
        row.zone or "-",
        *map(_shown, (row.location_kg, row.market_kg, row.scope2_location_kg)),
    ]
    ours = [str(row.runs), _shown(row.energy_kwh), _shown(row.emissions_kg)] if is_compared else []
    return cells + ours


def _shown(value: float | None) -> str:
    """At least four digits, and no power of ten for what is large."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= _WHOLE else f"{value:.4g}"


def _as_dict(export: Export, rows: Sequence[BesideRow], notes: Sequence[str]) -> dict[str, Any]:
    return {
        "provider": export.shape.provider,
        "export": export.shape.name,
        "lines": [asdict(line) for line in _concealed(export.lines)],
        "beside": [asdict(row) for row in rows],
        "notes": list(notes),
        "why_they_differ": list(WHY_THEY_DIFFER),
    }


def _concealed(lines: Sequence[Line]) -> list[Line]:
    """Accounts as the privacy setting wants them."""
    from mlflow_carbon.provenance import privacy

    mode = setup.resolve()[0].privacy
    key = privacy.salt(setup.home()) if mode == "hashed" else None
    names = {line.account: privacy.conceal(line.account, mode=mode, key=key) or "" for line in lines}
    return [replace(line, account=names[line.account]) for line in lines]

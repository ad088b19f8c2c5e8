"""`mlflow-carbon recover`: store what killed or cut-off runs have measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon import assembly, journal

if TYPE_CHECKING:
    import argparse

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "recover", help="store the figures of runs that were killed or could not reach the server"
    )
    parser.add_argument("journal", nargs="*", type=Path, help="journal files; none: all of this machine")
    parser.add_argument("--run", metavar="RUN_ID", help="only journals of this run")
    parser.add_argument("--dry-run", action="store_true", help="list what would be recovered")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    folder = assembly.journal_folder()
    paths = options.journal or journal.orphans(folder, options.run)
    if not paths:
        named = f" of run {options.run}" if options.run else ""
        print(f"nothing to recover{named} in {folder}")
        return 1 if options.run else 0
    failed = 0
    for number, path in enumerate(paths, start=1):
        where = f"[{number}/{len(paths)}] {path}"
        if options.dry_run:
            print(where)
            continue
        if journal.is_live(path):
            print(f"{where}: still being written, left alone")
            continue
        outcome = assembly.recover_journal(path, end_run=True)
        print(f"{where}: run {outcome.run_id or 'unknown'}: {outcome.outcome}: {outcome.detail}")
        failed += outcome.outcome == "failed"
    return 1 if failed else 0

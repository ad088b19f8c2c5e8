"""`mlflow-carbon recover`: store what killed or cut-off runs have measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon import assembly, journal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

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
    with journal.recovering(folder) as is_mine:
        if not is_mine and not options.dry_run:
            print(f"another `recover` is at work in {folder}: wait for its end, then try again")
            return 1
        paths = _paths(folder, options)
        if not paths:
            named = f" of run {options.run}" if options.run else ""
            print(f"nothing to recover{named} in {folder}")
            return 1 if options.run else 0
        if options.dry_run:
            for number in range(1, len(paths) + 1):
                print(_where(number, paths))
            return 0
        done = [_recover(path, _where(number, paths)) for number, path in enumerate(paths, start=1)]
    return 0 if all(done) else 1


def _paths(folder: Path, options: argparse.Namespace) -> list[Path]:
    if not options.journal:
        return journal.orphans(folder, options.run, host=assembly.host())
    named: list[Path] = options.journal
    if options.run is None:
        return named
    return [path for path in named if (journal.header(path) or {}).get("run_id") == options.run]


def _where(number: int, paths: Sequence[Path]) -> str:
    return f"[{number}/{len(paths)}] {paths[number - 1]}"


def _recover(path: Path, where: str) -> bool:
    """Recover one journal and say so; False if it could not be."""
    if journal.is_live(path):
        print(f"{where}: still being written, left alone")
        return True
    outcome = assembly.recover_journal(path, end_run=True)
    print(f"{where}: run {outcome.run_id or 'unknown'}: {outcome.outcome}: {outcome.detail}")
    return outcome.outcome != "failed"

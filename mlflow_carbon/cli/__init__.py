"""The command `mlflow-carbon`. Arguments in, text and an exit code out; no command computes a figure.

Exit codes (decision 18): 0 ok, 1 a negative answer, 2 bad data, 64 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from mlflow_carbon._version import __version__
from mlflow_carbon.cli import cloud, doctor, grid, plan, recover
from mlflow_carbon.errors import CarbonError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

OK, BAD_DATA, USAGE = 0, 2, 64
COMMANDS = (cloud, doctor, grid, plan, recover)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the console script's entry. Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except CarbonError as error:
        print(f"mlflow-carbon: {error}", file=sys.stderr)
        return _exit_code(error)
    return code


def _exit_code(error: CarbonError) -> int:
    return USAGE if isinstance(error, SettingsError) else BAD_DATA


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mlflow-carbon", description="Energy and carbon of MLflow runs: look, check, mend.")
    parser.add_argument("--version", action="version", version=f"mlflow-carbon {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True, parser_class=_Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser

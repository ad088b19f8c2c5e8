"""`python -m mlflow_carbon.testing`: make a simulated machine, and print the command that looks at it."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mlflow_carbon.testing.meter import Meter
from mlflow_carbon.testing.nvml import NvmlStub, SimulatedGpu, compile_stub
from mlflow_carbon.testing.powercap import PowercapTree, Zone
from mlflow_carbon.testing.waveform import constant, training

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
_USAGE = 64  # as `mlflow-carbon` has it
_PACKAGE = "intel-rapl:0"
_ZONES = {_PACKAGE: ("package-0", 100.0), "intel-rapl:0:0": ("dram", 20.0)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(_USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 and a reason where it cannot be done here."""
    options = _parser().parse_args(arguments)
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        print(options.make(options))
    except OSError as error:
        print(f"mlflow_carbon.testing: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        print(f"mlflow_carbon.testing: the C compiler cc refused: {said}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m mlflow_carbon.testing", description=__doc__)
    commands = parser.add_subparsers(metavar="machine", required=True)
    powercap = commands.add_parser("powercap", help="RAPL counters of a package and its memory, as files")
    powercap.add_argument("--closed", action="store_true", help="the package's counter cannot be read")
    powercap.set_defaults(make=_powercap)
    nvml = commands.add_parser("nvml", help="an NVIDIA driver with one GPU; needs Linux and a C compiler cc")
    nvml.add_argument("--no-counter", action="store_true", help="a GPU without an energy counter")
    nvml.set_defaults(make=_nvml)
    for command in (powercap, nvml):
        command.add_argument("folder", type=Path, metavar="DIR", help="where its files are put")
    return parser


def _powercap(options: argparse.Namespace) -> str:
    """The tree. Its counters stand still: `PowercapTree.show` moves them in a test."""
    zones = [
        Zone(path=path, name=name, meter=Meter(truth=constant(power_w)))
        for path, (name, power_w) in _ZONES.items()
    ]
    tree = PowercapTree(options.folder, zones)
    if options.closed:  # no permission keeps root from a plain file
        (tree.hide if os.geteuid() == 0 else tree.deny)(_PACKAGE)
    return f"mlflow-carbon doctor --root {shlex.quote(str(options.folder))}"


def _nvml(options: argparse.Namespace) -> str:
    """The library and its file; the GPU trains in real time from now on, for every process that loads it."""
    gpu = SimulatedGpu(waveform=training(), unsupported=(_COUNTER,) if options.no_counter else ())
    stub = NvmlStub(compile_stub(options.folder.resolve()), [gpu], is_virtual=False)
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in stub.environment().items())
    return f"{variables} mlflow-carbon doctor"


if __name__ == "__main__":
    sys.exit(main())

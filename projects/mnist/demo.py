"""A demonstration of waiting: the grid of the documents' example, 420.5 gCO2e/kWh that falls to 285.3.

No grid is measured here. The two figures are played from a trace made on the spot, the first for the time to
wait and the lower one from then on; the training is real. `python -m projects.mnist.demo --wait_s 600` trains
with a threshold of 300 after ten minutes. Real grids hardly ever fall by so much within an hour.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from projects.mnist import train
from projects.mnist.config import ALL, ConfigError, from_command_line, program, say

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "trace"]

BEFORE, AFTER = 420.5, 285.3
"""gCO2e/kWh before and after, as in the documents' example."""
THRESHOLD = 300
_NAME = "demonstration.csv"
_DAY_S = 86_400
_BUCKET_S = 300
_SLOTS = 10  # of the wait: how finely the fall can be placed
_LABEL = (
    "DEMONSTRATION: intensities of 420.5 and 285.3 gCO2e/kWh are played from a made trace; no grid says so"
)


def trace(now_s: float, *, wait_s: int) -> str:
    """A trace that is high for so long from now on and low for a day after that.

    A long wait ends with a bucket of energy (five minutes), which has one intensity.
    """
    slot_s = wait_s // _SLOTS
    edge_s = _BUCKET_S if wait_s >= _BUCKET_S else slot_s
    fall_s = -(-(now_s + wait_s) // edge_s) * edge_s
    first = int(now_s // slot_s - 2 * _BUCKET_S // slot_s) * slot_s
    starts = range(first, int(fall_s) + max(_DAY_S // slot_s, 1) * slot_s, slot_s)
    rows = (f"{_iso(t)},{BEFORE if t < fall_s else AFTER}" for t in starts)
    return "\n".join(("slot_start_utc,gco2_per_kwh", *rows, ""))


def _iso(t_s: int) -> str:
    return datetime.fromtimestamp(t_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wait_s(raw: str) -> int:
    wait_s = int(raw) if raw.isdecimal() else 0
    if not wait_s or wait_s % _SLOTS or _DAY_S % (wait_s // _SLOTS):
        raise ConfigError(f"wait_s: expected ten times a divisor of a day, such as 600 or 30, got {raw!r}")
    return wait_s


def main(argv: Sequence[str]) -> int:
    """The command line: `--wait_s SECONDS`, and what the trainer takes. Returns the exit code."""
    words = list(argv)
    raw = "600"
    if "--wait_s" in words[:-1]:
        at = words.index("--wait_s")
        raw = words[at + 1]
        del words[at : at + 2]
    try:
        wait_s = _wait_s(raw)
        given = from_command_line(words, accepts=ALL)
    except ConfigError as error:
        say(str(error))
        return error.exit_code
    if given.carbon_policy not in {None, "threshold"}:
        say(f"carbon_policy: the demonstration is of a threshold, got {given.carbon_policy!r}")
        return ConfigError.exit_code
    if given.carbon_threshold_gco2e_per_kwh is None:
        words += ["--carbon_threshold_gco2e_per_kwh", str(THRESHOLD)]
    if not any(word.startswith("--max_wait_s") for word in words):
        words += ["--max_wait_s", str(wait_s + 2 * _BUCKET_S)]
    say(_LABEL)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _NAME
        file.write_text(trace(time.time_ns() / 1e9, wait_s=wait_s), encoding="utf-8")
        os.environ["MLFLOW_CARBON_GRID"] = f"recorded:{file}"
        return program(lambda config: train.train(config, tags={"carbon.demonstration": _LABEL}), words)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

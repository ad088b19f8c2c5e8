"""What the meters of this machine's GPU do, and what ours adds to a training step: one command, a table and JSON.

Usage: python benchmarks/gpu_probe.py [--gpu N] [--seconds S] [--write | --simulate]

Needs an NVIDIA driver; what needs torch with CUDA or `nvidia-smi` says so where it is missing. Exit code 2: no GPU.
`--write` puts the result into docs/benchmarks; `--simulate` shows that the program works, on a simulated GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside this program

import gpu_load
from gpu_meters import Meters
from record import Report, Table, load, machine, page, spread, three, write

from mlflow_carbon.testing import NvmlStub, SimulatedGpu, compile_stub, square

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SECONDS = 20.0
ROUNDS = 7
NO_GPU = 2
TEXT = (
    "Refresh: how often a value changes when it is asked 2000 times a second. Latency: of one call from Python. "
    "Counter over power: energy by the counter over that by power polled each 20 ms; at idle and under bf16 matrix "
    "products. Lag: from the end of the first kernels until power is half-way up."
)
SIMULATED = (
    "**Never run on hardware.** The figures below are of a simulated GPU (counter and power refresh each 100 ms, a 3 s "
    "square wave of 100 and 300 W) and only show that the program works. On a machine with a GPU: `python "
    "benchmarks/gpu_probe.py --write`. "
)


def probe(meters: Meters, seconds: float) -> dict[str, Any]:
    """Everything that can be asked here; what cannot says why."""
    missing = gpu_load.why_not()
    found: dict[str, Any] = {
        "gpu": meters.name,
        "driver": meters.driver,
        "meters": meters.survey(seconds),
        "buffer": meters.buffer(),
        "idle": meters.agreement(seconds),
    }
    if missing:
        reason = {"missing": missing}
        return found | {
            "loaded": reason,
            "lag": reason,
            "sync_us": reason,
            "overhead": reason,
            "smi": against_smi(seconds),
        }
    with gpu_load.load():
        found["loaded"] = meters.agreement(seconds)
        found["smi"] = against_smi(seconds)
    found["lag"] = gpu_load.lag_ms(meters)
    found["sync_us"] = gpu_load.sync_us()
    found["overhead"] = gpu_load.overhead(ROUNDS)
    return found


def against_smi(seconds: float) -> dict[str, Any]:
    """Energy of all GPUs by our meter and by the mean of what `nvidia-smi` shows ten times a second."""
    import mlflow_carbon

    query = ["nvidia-smi", "--query-gpu=index,power.draw", "--format=csv,noheader,nounits", "--loop-ms=100"]
    try:
        process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        return {"missing": f"nvidia-smi cannot be run: {error}"}
    time.sleep(1.0)
    with mlflow_carbon.track(grid="annual") as block:
        time.sleep(seconds)
    process.terminate()
    lines = [line.split(",") for line in process.communicate()[0].splitlines() if line.count(",") == 1]
    powers: dict[str, list[float]] = {}
    for index, power in lines:
        try:
            powers.setdefault(index, []).append(float(power))
        except ValueError:  # "[N/A]"
            continue
    footprint = block.footprint
    if not powers or footprint is None or footprint.energy_gpu_kwh is None:
        return {"missing": "nvidia-smi or our meter told no power"}
    by_smi_j = sum(sum(p) / len(p) for p in powers.values()) * (footprint.duration_s or 0.0)
    ours_j = footprint.energy_gpu_kwh * 3.6e6
    return {"ours_j": ours_j, "smi_j": by_smi_j, "ratio": ours_j / by_smi_j if by_smi_j else None}


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The figures, and why some are missing."""
    meters = [
        (
            row["meter"],
            *(
                (row["error"], "", "", "")
                if "error" in row
                else (
                    _number(row["refresh_ms"], "ms"),
                    str(row["changes"]),
                    _number(row["latency_us"], "us"),
                    _number(row["latency_p99_us"], "us"),
                )
            ),
        )
        for row in found["meters"]
    ]
    rest = [
        (
            "driver's buffer of power samples",
            _told(
                found["buffer"], lambda b: f"{b['samples']} samples, {_number(b['spacing_ms'], 'ms')} apart"
            ),
        ),
        ("counter over power, idle", _told(found["idle"], lambda r: _number(r["ratio"], ""))),
        ("counter over power, loaded", _told(found["loaded"], lambda r: _number(r["ratio"], ""))),
        ("ours over nvidia-smi", _told(found["smi"], lambda r: _number(r["ratio"], ""))),
        ("lag of power behind a kernel's edge", _told(found["lag"], lambda r: spread(r["lag_ms"], "ms"))),
        ("a synchronisation with nothing to wait for", _told(found["sync_us"], lambda us: _number(us, "us"))),
        *_overhead(found["overhead"]),
    ]
    head = ("Meter", "Refresh (median)", "Changes seen", "Latency (median)", "Latency (p99)")
    return [
        Table(title="Meters", text=f"{found['gpu']}, driver {found['driver']}.", head=head, rows=meters),
        Table(title="The rest", text="", head=("What", "Found"), rows=rest),
    ]


def _overhead(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "missing" in found:
        return [("slowdown of a bf16 training step", f"not measured: {found['missing']}")]
    step = f"a step takes {_number(found['step_ms'][0], 'ms')}"
    slower = {name: values for name, values in found.items() if name != "step_ms"}
    return [
        (f"slowdown of a bf16 training step: {name} ({step})", spread(v, "%")) for name, v in slower.items()
    ]


def _told(value: Any, say: Callable[[Any], str]) -> str:
    if isinstance(value, dict) and (reason := value.get("missing") or value.get("error")):
        return f"not measured: {reason}"
    return say(value)


def _number(value: float | None, unit: str) -> str:
    return "not seen" if value is None else f"{three(value)} {unit}".strip()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--write", action="store_true", help="write docs/benchmarks/gpu_probe.md and its JSON")
    kind.add_argument(
        "--simulate", action="store_true", help="a simulated GPU; writes the page, which says so"
    )
    options = parser.parse_args(arguments)
    before = load()
    with tempfile.TemporaryDirectory() as folder:
        if options.simulate:
            wave = square(low_w=100.0, high_w=300.0, period_s=3.0)
            stub = NvmlStub(
                compile_stub(Path(folder)), [SimulatedGpu(waveform=wave, sample_count=120)], is_virtual=False
            )
            stub.load()
        try:
            meters = _meters(options.gpu)
        except OSError as error:
            print(
                f"no GPU: {error}; run this where `nvidia-smi` lists one, or try --simulate", file=sys.stderr
            )
            return NO_GPU
        found = probe(meters, options.seconds)
    report = Report(
        title="What a GPU's meters do",
        text=(SIMULATED if options.simulate else "") + TEXT,
        command=f"python benchmarks/gpu_probe.py {' '.join(arguments)}".strip(),
        load=(before, load()),
        tables=tables(found),
        notes=(),
        raw=found,
    )
    if options.write or options.simulate:
        write("gpu_probe", report)
    else:
        document = {"date": "now", "machine": machine(), "title": report.title, "text": report.text}
        document |= {"command": report.command, "load": report.load, "notes": ()}
        rows = [{"title": t.title, "text": t.text, "head": t.head, "rows": t.rows} for t in report.tables]
        print(page("gpu_probe", document | {"tables": rows}))
    return 0


def _meters(number: int) -> Meters:
    """The meters of a GPU.

    Raises:
        OSError: If there is no driver or no such GPU.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        return Meters(pynvml, number)
    except pynvml.NVMLError as error:
        raise OSError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

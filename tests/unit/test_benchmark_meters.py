"""How the comparison with other meters judges: windows, verdicts, pins; and the stand-ins it shows them."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux: LD_PRELOAD and LD_LIBRARY_PATH"
)
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc")


@pytest.fixture(scope="module")
def program():
    """Imports a module of the benchmarks by name, as they import one another."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("told_j", "error_ratio"),
    [(1000.0, 0.0), (1100.0, 0.0), (1150.0, 0.0), (900.0, -0.1), (1265.0, 0.1)],
)
def test_what_the_choice_of_the_window_explains_is_no_error(program, told_j, error_ratio):
    """Between 1000 J of the inner and 1150 J of the outer window anything is right; beyond, the nearer one counts."""
    waves = program("peer_waves")
    case = waves.Case(name="x", make=lambda _dice: None)
    result = {"energy_j": {"gpu": told_j}, "true_j": {"gpu": [1000.0, 1150.0]}}
    assert case.error_ratio("CodeCarbon", result) == pytest.approx(error_ratio)


def test_who_tells_nothing_has_no_error(program):
    """A meter without the part is no meter that is wrong about it."""
    case = program("peer_waves").Case(name="x", make=lambda _dice: None, part="cpu")
    assert case.error_ratio("eco2AI", {"energy_j": {"gpu": 1.0}, "true_j": {}}) is None


def test_memory_counts_where_a_meter_tells_it(program):
    """Package and DRAM are added, but CodeCarbon's CPU is the package alone."""
    case = program("peer_waves").Case(
        name="x",
        make=lambda _dice: None,
        part="cpu",
        truths={"CodeCarbon": ("package",), "": ("package", "dram")},
    )
    true_j = {"package": [150.0, 150.0], "dram": [20.0, 20.0]}
    assert case.error_ratio("Zeus", {"energy_j": {"cpu": 150.0, "dram": 20.0}, "true_j": true_j}) == 0
    assert case.error_ratio("CodeCarbon", {"energy_j": {"cpu": 150.0}, "true_j": true_j}) == 0


def test_a_row_says_met_missed_or_nothing(program):
    """The verdict is ours; a peer without a figure has a dash."""
    rows = program("sampler_rows")
    texts = rows.Row(goal="G1", what="x", target="<= 1", is_met=False, cells={"mlflow-carbon": "2"}).texts()
    assert texts[:5] == ("G1", "x", "<= 1", "2", "**missed**")
    assert set(texts[5:]) == {"-"}
    assert rows.Row(goal="", what="x").texts()[4] == ""


def test_ninety_five_of_a_hundred(program):
    """Of 0 to 99 the 95th percentile is 95."""
    assert program("sampler_rows").p95(range(100)) == 95


def test_every_peer_is_pinned(program):
    """Each requirement has one version, and the peer is among them."""
    world = program("peer_world")
    for peer, name in world.PEERS.items():
        lines = (BENCHMARKS / f"peers/{name}.txt").read_text(encoding="utf-8").split()
        assert world.version_of(peer)
        assert [line for line in lines if "==" not in line] in ([], ["setuptools<81"])


def test_dithered_beats_stay_within_their_period(program):
    """Ten minutes of readings once a second, each within half a second of its beat, and the last at the end."""
    beats = program("own_virtual").Beats(duration_s=600.0, seed=3)
    times, now_s = [], 0.0
    for pause_s in beats.pauses_s():
        assert pause_s >= 0
        now_s += pause_s
        times.append(now_s)
    assert times[-1] == pytest.approx(600.0)
    assert all(abs(t - k) <= 0.5 for k, t in enumerate(times[:-1], start=1))


def test_phases_add_up_to_the_total(program):
    """Whatever the steps, the phases and the rest are the whole."""
    rows = program("own_phases").phase_errors(1)
    assert max(row["closure_ratio"] for row in rows) <= 1e-9


@needs_cc
@needs_linux
@pytest.mark.slow
def test_another_folder_poses_as_powercap(program, tmp_path):
    """A process with the stand-in sees the folder under the kernel's path, and reads fail when they shall."""
    libraries = program("peer_world").Libraries.compiled(tmp_path)
    zone = tmp_path / "tree/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "energy_uj").write_text("42\n")
    (tmp_path / "tree/fails").write_text("0")
    code = (
        "import json, os\n"
        "path = '/sys/class/powercap/intel-rapl:0/energy_uj'\n"
        "found = [os.listdir('/sys/class/powercap/intel-rapl:0'), open(path).read()]\n"
        "open(os.environ['POWERCAP_ROOT'] + '/fails', 'r+').write('1')\n"
        "try: open(path).read()\n"
        "except OSError as error: found.append(error.errno)\n"
        "print(json.dumps(found))"
    )
    variables = {"LD_PRELOAD": str(libraries.folder / "powercap.so"), "POWERCAP_ROOT": str(tmp_path / "tree")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [["energy_uj"], "42\n", 5]


@needs_linux
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_the_probe_says_that_there_is_no_gpu():
    """Without a driver it ends with code 2 and a sentence."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu_probe.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("no GPU:")

"""CPU time of the machine from `/proc/stat`."""

from __future__ import annotations

import os

import pytest

from mlflow_carbon.cpu_time import ProcStat, machine_times

LINE = "cpu  600 100 200 5000 50 10 20 30 90 5\ncpu0 300 50 100 2500 25 5 10 15 45 3\nintr 1 2 3\n"


def _root(folder, text):
    (folder / "proc").mkdir()
    (folder / "proc/stat").write_text(text)
    return folder


@pytest.fixture
def ticks_per_s():
    """How many ticks of the table a second has: 100 nearly everywhere."""
    return os.sysconf("SC_CLK_TCK")


def test_the_first_line_is_the_machine(tmp_path, ticks_per_s):
    """Busy: 600 + 100 + 200 + 10 + 20 + 30 = 960 ticks; all: 5050 more. Guests are in user and nice already."""
    times = machine_times(_root(tmp_path, LINE))
    assert isinstance(times, ProcStat)
    assert times().busy_s == pytest.approx(960 / ticks_per_s)
    assert times().total_s == pytest.approx(6010 / ticks_per_s)
    times.close()


def test_an_open_file_tells_what_it_holds_now(tmp_path, ticks_per_s):
    """Each reading is fresh, though the file is opened once."""
    root = _root(tmp_path, LINE)
    times = machine_times(root)
    (root / "proc/stat").write_text(LINE.replace("600", "700"))
    assert times().busy_s == pytest.approx(1060 / ticks_per_s)


def test_closing_twice_is_safe_and_ends_reading(tmp_path):
    """A closed sensor reads no file that has got its number since."""
    times = machine_times(_root(tmp_path, LINE))
    assert isinstance(times, ProcStat)
    times.close()
    times.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        times()


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu  1 2 three\n", "memory 5\n"])
def test_what_is_no_table_of_times_leaves_psutil(tmp_path, text):
    """A file that says something else is not believed; psutil finds its own way."""
    times = machine_times(_root(tmp_path, text))
    assert not isinstance(times, ProcStat)
    assert 0 < times().busy_s < times().total_s


def test_both_ways_agree(tmp_path):
    """On Linux psutil reads the same line."""
    psutil_times = machine_times(tmp_path)()
    own_times = machine_times(tmp_path / "/")()
    assert own_times.total_s == pytest.approx(psutil_times.total_s, abs=60)
    assert own_times.busy_s == pytest.approx(psutil_times.busy_s, abs=60)

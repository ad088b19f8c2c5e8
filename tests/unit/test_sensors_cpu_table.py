"""CodeCarbon's table of CPUs: reading it, matching names as CodeCarbon does, and recording it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mlflow_carbon.sensors.cpu_table import match, read_table, table_record

BRANDS = (
    "AMD EPYC",
    "AMD EPYC 7763 64-Core Processor",
    "AMD EPYC 7B12",
    "AMD EPYC 7B13",
    "AMD EPYC 9R14",
    "AMD Ryzen 9 5950X 16-Core Processor",
    "AMD Ryzen Threadripper 3990X 64-Core Processor",
    "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz",
    "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz",
    "Intel(R) Xeon(R) CPU @ 2.20GHz",
    "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz",
    "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz",
    "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz",
    "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz",
    "Intel(R) Xeon(R) Platinum 8488C",
    "Intel(R) Xeon(R) Processor",
    "Intel(R) Xeon(R) Processor @ 2.30GHz",
    "13th Gen Intel(R) Core(TM) i9-13900K",
    "Neoverse-N1",
    "0",
    "",
)


@pytest.fixture(scope="module")
def table():
    """The table of the installed package."""
    return read_table()


def test_table_is_read_with_its_origin(table):
    """The table names its package and version; a known row has its design power."""
    assert table.origin == f"codecarbon {version('codecarbon')} cpu_power.csv"
    assert table.tdp_w["AMD EPYC 7763"] == 280.0
    assert "Name" not in table.tdp_w


def test_rows_that_are_no_number_are_kept_without_one(table):
    """A damaged row can still be matched, and then has no design power."""
    assert table.tdp_w["Intel Celeron 1000A"] is None


@pytest.mark.parametrize(
    ("brand", "name"),
    [
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763"),
        ("intel core i7-9750h", "Intel Core i7-9750H"),
        ("AMD EPYC", None),
        ("", None),
    ],
)
def test_names_that_fit_and_that_do_not(table, brand, name):
    """A brand string finds its row; one that fits many rows or none finds nothing."""
    assert match(brand, tuple(table.tdp_w)) == name


def test_matching_equals_codecarbon(table):
    """Cloud brands and rows, bare and dressed up as brand strings, find the row that CodeCarbon finds."""
    from codecarbon.core.cpu import TDP

    names = tuple(table.tdp_w)
    frame: Any = {"Name": names}  # all that the method uses of its data frame
    theirs = TDP.__new__(TDP)  # its constructor detects this machine's CPU, which takes a second
    rows = names[::120]
    dressed = [name.replace("Intel ", "Intel(R) ") + " CPU @ 2.40GHz" for name in rows]
    for brand in (*BRANDS, *rows, *dressed):
        assert match(brand, names) == theirs._get_matching_cpu(brand, frame), brand


def test_record_names_version_and_hash():
    """The record holds the SHA-256 of the file that was read."""
    spec = find_spec("codecarbon")
    assert spec is not None
    assert spec.origin is not None
    content = (Path(spec.origin).parent / "data/hardware/cpu_power.csv").read_bytes()
    assert table_record() == {
        "package": "codecarbon",
        "version": version("codecarbon"),
        "sha256": {"data/hardware/cpu_power.csv": hashlib.sha256(content).hexdigest()},
    }


def test_missing_package_is_no_table():
    """Without the package there is no table and the record says so."""
    assert read_table("no_such_package_here") is None
    assert table_record("no_such_package_here") == {
        "package": "no_such_package_here",
        "version": None,
        "sha256": {},
    }


def test_package_without_the_table_is_no_table():
    """A package of another layout is no table either."""
    assert read_table("rapidfuzz") is None


def test_a_malformed_row_costs_one_cpu_and_not_the_table(tmp_path, monkeypatch):
    """A row with a cell too many or too few is left out; a package of which the version is unknown serves too."""
    data = tmp_path / "oddtables/data/hardware"
    data.mkdir(parents=True)
    (tmp_path / "oddtables/__init__.py").write_text("")
    (data / "cpu_power.csv").write_text("Name,TDP\nGood CPU,65\nlonely\nToo,many,cells\nOther CPU,95\n")
    monkeypatch.syspath_prepend(tmp_path)
    table = read_table("oddtables")
    assert table is not None
    assert table.tdp_w == {"Good CPU": 65.0, "Other CPU": 95.0}
    assert table.origin == "oddtables of unknown version cpu_power.csv"

"""The cache on disk: what was fetched comes back, and damage is nothing lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.grid.cache import Cache

if TYPE_CHECKING:
    from pathlib import Path


def slot(
    start_s: int,
    value: float = 100.0,
    fetched_s: float = 1.0,
    kind: str = "forecast",
    issued_s: float | None = None,
) -> IntensitySlot:
    """A half hour."""
    return IntensitySlot(
        start_s=start_s,
        end_s=start_s + 1800,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value / 2,
        high_gco2e_per_kwh=value * 2,
        kind=kind,
        issued_s=issued_s,
        fetched_s=fetched_s,
    )


def test_slots_come_back_as_they_were_kept(tmp_path):
    """With the time they were fetched, over midnight, and only those of the window."""
    cache = Cache(folder=tmp_path / "cache")
    slots = [slot(t, fetched_s=84_700.0) for t in range(84_600, 90_001, 1800)]
    cache.save("s", "GB", slots)
    found = cache.load("s", "GB", 86_400, 90_000)
    assert [found[t] for t in (86_400, 88_200)] == slots[1:3]
    assert found[86_400].fetched_s == 84_700.0
    assert cache.load("s", "DE", 0, 200_000) == {}
    assert cache.load("other", "GB", 0, 200_000) == {}


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 200), st.floats(1, 1000)), max_size=30))
def test_the_last_write_of_a_slot_counts(tmp_path_factory, writes):
    """Whatever the order of writes, the cache holds for each slot what came last."""
    cache = Cache(folder=tmp_path_factory.mktemp("cache"))
    for n, (index, value) in enumerate(writes):
        cache.save("s", "GB", [slot(index * 1800, value, fetched_s=n)])
    found = cache.load("s", "GB", 0, 201 * 1800)
    assert {t: e.gco2e_per_kwh for t, e in found.items()} == {i * 1800: v for i, v in writes}


@pytest.mark.parametrize(
    "content", [b"", b"[", b"{}", b"[{}]", b"[1]", b"\xff", b'[{"start_s": 0}]', b"[" * 100_000]
)
def test_a_damaged_file_counts_as_absent_and_is_mended(tmp_path, content):
    """A cut-off or foreign file is no error and does not stay."""
    file = tmp_path / "s" / "GB" / "0.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    cache = Cache(folder=tmp_path)
    assert cache.load("s", "GB", 0, 86_400) == {}
    cache.save("s", "GB", [slot(0)])
    assert set(cache.load("s", "GB", 0, 86_400)) == {0}


@pytest.mark.parametrize(
    "key", ["start_s", "end_s", "kind", "source", "fetched_s", "issued_s", "gco2e_per_kwh"]
)
@pytest.mark.parametrize("value", [["x"], {}, "x", None])
def test_a_field_of_another_kind_makes_the_file_useless(tmp_path, key, value):
    """Whatever JSON can hold, loading and keeping go on."""
    cache = Cache(folder=tmp_path)
    cache.save("s", "GB", [slot(0), slot(1800)])
    (file,) = tmp_path.rglob("*.json")
    rows = json.loads(file.read_text())
    rows[0][key] = value
    file.write_text(json.dumps(rows))
    is_good = (key == "issued_s" and value is None) or (key in {"kind", "source"} and value == "x")
    assert bool(cache.load("s", "GB", 0, 86_400)) == is_good
    cache.save("s", "GB", [slot(3600)])
    assert 3600 in cache.load("s", "GB", 0, 86_400)


def test_nothing_is_left_beside_the_files(tmp_path):
    """The part file was renamed."""
    Cache(folder=tmp_path).save("s", "GB", [slot(0)])
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["0.json"]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    """A file where the folder should be: nothing is kept, nothing is raised."""
    blocked: Path = tmp_path / "cache"
    blocked.write_text("in the way")
    Cache(folder=blocked).save("s", "GB", [slot(0)])
    assert Cache(folder=blocked).load("s", "GB", 0, 86_400) == {}


def test_no_folder_keeps_nothing():
    """The cache may be switched off."""
    cache = Cache(folder=None)
    cache.save("s", "GB", [slot(0)])
    assert cache.load("s", "GB", 0, 86_400) == {}


def test_an_actual_is_not_lost_to_a_forecast_of_the_same_slot(tmp_path):
    """More certain kinds stay; among forecasts the one issued last counts, whichever came last."""
    cache = Cache(folder=tmp_path)
    cache.save("s", "GB", [slot(0, 90, kind="actual"), slot(1800, 80, issued_s=200.0)])
    cache.save("s", "GB", [slot(0, 50, fetched_s=9.0), slot(1800, 70, issued_s=100.0, fetched_s=9.0)])
    found = cache.load("s", "GB", 0, 3600)
    assert [(found[t].gco2e_per_kwh, found[t].issued_s) for t in (0, 1800)] == [(90, None), (80, 200)]


@pytest.mark.parametrize("place", ["GB:SW7", "../../etc", "a/b"])
def test_a_place_never_leaves_the_folder(tmp_path, place):
    """Whatever a place is called, its files lie below the source."""
    Cache(folder=tmp_path / "grid").save("s", place, [slot(0)])
    (file,) = tmp_path.rglob("*.json")
    assert file.parent.parent == tmp_path / "grid" / "s"
    assert set(Cache(folder=tmp_path / "grid").load("s", place, 0, 1)) == {0}

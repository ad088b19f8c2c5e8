"""What every live grid provider in the table promises."""

from __future__ import annotations

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import PROVIDERS, zones
from mlflow_carbon.settings import _CHOICES
from tests.grid_payloads import FOLDER, body

DAY_S = 86_400


@pytest.fixture(params=sorted(PROVIDERS))
def entry(request):
    """Each provider with its name in the table."""
    return request.param, PROVIDERS[request.param]


def test_its_name_is_a_setting(entry):
    """`grid=<name>` chooses it."""
    assert entry[0] in _CHOICES["grid"]


def test_its_zones_are_ours(entry):
    """Ids are canonical."""
    assert {zones.check(z) for z in entry[1].zones} == entry[1].zones


def test_its_labels_are_words_of_the_vocabulary(entry):
    """Scope and signal are never free text."""
    assert entry[1].scope in {"direct", "life cycle"}
    assert entry[1].signal in {"average", "marginal"}
    assert DAY_S % entry[1].slot_s == 0


def test_requests_are_https_and_bounded(entry):
    """A day needs a handful of addresses at most."""
    for zone_id in entry[1].zones:
        urls = entry[1].request(zone_id, 1_772_000_000, 1_772_000_000 + DAY_S)
        assert 1 <= len(urls) <= 4
        assert all(u.startswith("https://") for u in urls)


def test_slots_are_sorted_apart_and_of_the_native_length(entry):
    """Every payload of this provider gives such slots or a GridError."""
    names = [f.stem for f in FOLDER.glob(f"{entry[0]}_*.json")]
    assert names
    parsed = 0
    for name in names:
        try:
            slots = entry[1].parse(body(name))
        except GridError:
            continue
        parsed += 1
        starts = [s.start_s for s in slots]
        assert starts == sorted(set(starts))
        assert all(s.end_s - s.start_s == entry[1].slot_s for s in slots)
        assert {s.kind for s in slots} <= {"actual", "forecast", "estimated"}
    assert parsed


@pytest.mark.parametrize(
    "rubbish", [b"", b"null", b"[]", b"{}", b"<html></html>", b"\xff\xfe", b"[" * 100_000]
)
def test_rubbish_is_a_grid_error(entry, rubbish):
    """No other exception leaves a parser."""
    with pytest.raises(GridError):
        entry[1].parse(rubbish)

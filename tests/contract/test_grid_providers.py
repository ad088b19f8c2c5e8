"""What every live grid provider in the table promises."""

from __future__ import annotations

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import AUTO, PROVIDERS, Request, Window, zones
from mlflow_carbon.settings import _CHOICES, resolve
from tests.grid_payloads import FOLDER, body, payload, request

DAY_S = 86_400


@pytest.fixture(params=sorted(PROVIDERS))
def entry(request):
    """Each provider with its name in the table."""
    return request.param, PROVIDERS[request.param]


def test_its_name_is_a_setting(entry):
    """`grid=<name>` chooses it."""
    assert entry[0] in _CHOICES["grid"]


def test_its_secret_is_no_unknown_setting(entry):
    """The variable has our prefix, and no run complains about it."""
    provider = entry[1]
    if provider.variable:
        assert resolve(env={provider.variable: "s3cret:s3cret"})[1] == []


def test_it_knows_some_of_our_zones_and_not_the_world(entry):
    """Ids are canonical; nobody is asked about a machine whose place is not known."""
    assert [z for z in zones.known() if entry[1].knows(z)]
    assert not entry[1].knows(zones.WORLD)
    assert not entry[1].knows("ATLANTIS")


def test_auto_asks_providers_of_the_table_only():
    """In an order of its own."""
    assert set(AUTO) <= set(PROVIDERS)


def test_its_labels_are_words_of_the_vocabulary(entry):
    """Scope and signal are never free text."""
    assert entry[1].scope in {"direct", "life cycle"}
    assert entry[1].signal in {"average", "marginal"}
    assert DAY_S % entry[1].slot_s == 0


def test_requests_are_https_and_bounded(entry):
    """A day needs a handful of addresses at most."""
    now_s = 1_772_000_000
    window = Window(start_s=now_s - DAY_S / 2, end_s=now_s + DAY_S / 2)
    for zone_id in (z for z in zones.known() if entry[1].knows(z)):
        asked = entry[1].request(zone_id, window, now_s)
        assert 1 <= len(asked) <= 4
        assert all(r.url.startswith("https://") for r in asked)
        assert {r.place for r in asked} == {zone_id}
        assert {r.what for r in asked} <= {"now", "history", "forecast"}
        assert all(bool(r.token) == bool(entry[1].variable) for r in asked)


def test_slots_are_sorted_apart_and_of_the_native_length(entry):
    """Every payload of this provider gives such slots or a GridError."""
    names = [f.stem for f in FOLDER.glob(f"{entry[0]}_*.json")]
    assert names
    parsed = 0
    for name in names:
        try:
            slots = entry[1].parse(body(name), request(name)).slots
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
        entry[1].parse(rubbish, Request(url="", what="history", place="DE"))


def test_every_payload_names_its_source():
    """Decision 32: where the shape comes from, and that nobody was called."""
    for file in FOLDER.glob("*.json"):
        content = payload(file.stem)
        assert "Shape of" in content["source"]
        assert "No live call was made" in content["note"]

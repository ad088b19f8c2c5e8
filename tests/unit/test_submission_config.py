"""The configuration of the project backend: what is understood, and what is refused with which words."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import SettingsError
from mlflow_carbon.scheduling import config as rules
from mlflow_carbon.scheduling.config import parse

LEAST = {"zone": "GB", "max_wait_h": 12}


def test_the_least_that_is_needed():
    """An hour at 300 W by `window` through the local backend, unless told otherwise."""
    found = parse(LEAST)
    assert (found.settings.zone, found.settings.zone_source) == ("GB", "argument")
    assert (found.job.length_s, found.job.max_wait_s) == (3600, 12 * 3600)
    assert (found.job.power_w, found.job.idle_w) == (300, 0)
    assert (found.policy, found.home.backend, found.places) == ("window", "local", ())
    assert found.finish_by_s is None


def test_all_of_it():
    """Every key arrives in SI units; the region keeps its own backend and transfer."""
    found = parse(
        {
            "zone": "GB",
            "grid": "gb",
            "duration_h": 4,
            "deadline": "2026-03-02T18:00+01:00",
            "max_wait_h": 24,
            "power_w": 700,
            "idle_w": 60,
            "policy": "region",
            "min_gain_ratio": 0.1,
            "backend": "local",
            "backend_config": {"a": 1},
            "regions": {
                "DE": {"transfer_kwh": 0.2, "backend": "kubernetes", "backend_config": {"k": 2}},
                "FR": {},
            },
        }
    )
    assert found.finish_by_s == datetime(2026, 3, 2, 17, tzinfo=UTC).timestamp()
    assert found.job.length_s == 4 * 3600
    assert [(p.zone, p.transfer_kwh) for p in found.places] == [("DE", 0.2), ("FR", 0.0)]
    assert (found.target("DE").backend, found.target("DE").config) == ("kubernetes", {"k": 2})
    assert (found.target("FR").backend, found.target("FR").config) == ("local", {"a": 1})
    assert found.target("GB") == found.home
    assert found.given == {"zone": "GB", "grid": "gb"}


def test_a_region_with_another_backend_does_not_inherit_a_foreign_configuration():
    """`backend_config` belongs to its backend."""
    found = parse(
        LEAST | {"regions": {"DE": {"backend": "kubernetes"}}, "backend_config": {"only": "for local"}}
    )
    assert found.target("DE").config == {}


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        (LEAST, "window"),
        (LEAST | {"threshold_gco2e_per_kwh": 100}, "threshold"),
        (LEAST | {"regions": {"DE": {}}}, "region"),
        ({"policy": "now"}, "now"),
        ({"regions": {"DE": {}}, "zone": "GB"}, "region"),
    ],
)
def test_the_policy_follows_from_what_is_named(config: dict[str, Any], policy: str):
    """A threshold asks for `threshold`, regions for `region`; those that need no wait need none named."""
    assert parse(config).policy == policy


def test_a_deadline_alone_binds():
    """Without max_wait_h the deadline says how long it may wait, up to a week."""
    found = parse({"zone": "GB", "deadline": "2026-03-02T12:00Z", "duration_h": 2})
    noon_s = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
    order = found.order(submitted_s=noon_s - 36_000, max_wait_s=found.job.max_wait_s, finish_by_s=noon_s)
    assert order.latest_start_s == noon_s - 7200
    late = found.order(submitted_s=noon_s, max_wait_s=found.job.max_wait_s, finish_by_s=noon_s)
    assert late.is_too_late
    assert late.latest_start_s == noon_s


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "expected max_wait_h (hours) or deadline"),
    ({"zone": "GB"}, "expected max_wait_h (hours) or deadline"),
    (LEAST | {"max_wait": 1}, "did you mean max_wait_h"),
    (LEAST | {"zone": "GBX"}, "did you mean GB"),
    (LEAST | {"zone": 7}, "zone: expected text, got 7"),
    (LEAST | {"grid": "nowhere"}, "grid: expected one of"),
    (LEAST | {"duration_h": 0}, "duration_h: expected a number from"),
    (LEAST | {"duration_h": -1}, "duration_h: expected a number from"),
    (LEAST | {"duration_h": "4"}, "duration_h: expected a number from"),
    (LEAST | {"duration_h": True}, "duration_h: expected a number from"),
    (LEAST | {"duration_h": math.nan}, "duration_h: expected a number from"),
    (LEAST | {"max_wait_h": 169}, "max_wait_h: expected a number from 0 to 168"),
    (LEAST | {"max_wait_h": -1}, "max_wait_h: expected a number from 0 to 168"),
    (LEAST | {"power_w": 0}, "power_w: expected a number"),
    (LEAST | {"idle_w": -5}, "idle_w: expected a number"),
    (LEAST | {"min_gain_ratio": 2}, "min_gain_ratio: expected a number from 0 to 1"),
    (LEAST | {"deadline": "2026-03-02T18:00"}, "with its offset"),
    (LEAST | {"deadline": "2026-03-02"}, "with its offset"),
    (LEAST | {"deadline": "tomorrow"}, "expected an ISO 8601 time with its offset"),
    (LEAST | {"deadline": 1}, "expected an ISO 8601 time with its offset"),
    (LEAST | {"policy": "interruptible"}, "can be paused"),
    (LEAST | {"policy": "windows"}, "did you mean window"),
    (LEAST | {"policy": "region"}, "expected `regions`"),
    (LEAST | {"policy": "window", "regions": {"DE": {}}}, "expected `regions`"),
    (LEAST | {"policy": "threshold"}, "expected threshold_gco2e_per_kwh"),
    (LEAST | {"policy": "window", "threshold_gco2e_per_kwh": 9}, "expected threshold_gco2e_per_kwh"),
    (LEAST | {"threshold_gco2e_per_kwh": "low"}, "threshold_gco2e_per_kwh: expected a number"),
    (LEAST | {"regions": ["DE"]}, "regions: expected an object"),
    (LEAST | {"regions": {"DEE": {}}}, "or DE (Germany)?"),
    (LEAST | {"regions": {"GB": {}}}, "expected zones other than home"),
    (LEAST | {"regions": {"DE": 1}}, "regions.DE: expected an object"),
    (LEAST | {"regions": {"DE": {"transfer": 1}}}, "did you mean transfer_kwh"),
    (LEAST | {"regions": {"DE": {"transfer_kwh": -1}}}, "regions.DE.transfer_kwh: expected a number"),
    (LEAST | {"backend": "carbon"}, "expected a backend of MLflow to wrap"),
    (LEAST | {"backend": 1}, "expected a backend of MLflow to wrap"),
    (LEAST | {"backend_config": []}, "backend_config: expected an object"),
)


@pytest.mark.parametrize(("config", "words"), REFUSED, ids=[json.dumps(c)[-60:] for c, _ in REFUSED])
def test_what_is_wrong_is_refused_in_words(config: dict[str, Any], words: str):
    """What was expected, what was got, what to do."""
    with pytest.raises(SettingsError) as error:
        parse(config)
    assert words in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = tuple(rules._KEYS)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), JSON, max_size=5))
def test_any_json_is_understood_or_refused(config: dict[str, Any]):
    """Nothing else than a `SettingsError` comes of whatever a file may hold."""
    try:
        found = parse(config)
    except SettingsError:
        return
    assert found.job.length_s > 0
    assert 0 <= found.job.max_wait_s <= 168 * 3600

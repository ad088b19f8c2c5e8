"""Energy-Charts: an intensity from a generation mix, by hand, and what is left out of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.contract import HISTORY, Request, Window
from mlflow_carbon.grid.energy_charts import COUNTRIES, EnergyCharts
from tests.grid_payloads import body, request

EC = EnergyCharts()
FIRST = 1_772_449_200  # 2026-03-02T11:00Z


def parsed(name: str):
    """The answer of a payload."""
    return EC.parse(body(name), request(name))


def test_the_intensity_is_the_mean_of_the_mix():
    """Slot 1: hydro 2000, biomass 4000, lignite 10000 and hard coal 4000 as coal, gas 8000, wind 20000 MW.

    2000 x 24 + 4000 x 230 + 14000 x 820 + 8000 x 490 + 20000 x 11 = 16 588 000 over 48 000 MW = 345.583;
    oil 400 and waste 600 MW have no factor: 1000 of 49 000, 2.04 %. Storage, trade, load and shares stay out.
    """
    slot = parsed("energy_charts_day").slots[0]
    assert slot.start_s == FIRST
    assert slot.gco2e_per_kwh == pytest.approx(16_588_000 / 48_000)
    assert slot.kind == "actual"
    share = 1000 / 49_000
    assert slot.low_gco2e_per_kwh == pytest.approx(345.5833 * (1 - share) * 0.85, rel=1e-4)
    assert slot.high_gco2e_per_kwh == pytest.approx((345.5833 + (1200 - 345.5833) * share) * 1.15, rel=1e-4)


def test_the_share_without_a_factor_is_said():
    """At most 2 % in this answer."""
    assert parsed("energy_charts_day").note == (
        "up to 2% of the generation has no factor and is taken as the rest"
    )


def test_a_slot_that_lacks_a_kind_is_left_out():
    """Gas is not reported yet in the last slot, which would look very clean without it."""
    assert [s.start_s for s in parsed("energy_charts_day").slots] == [FIRST, FIRST + 900, FIRST + 1800]


def test_hours_are_spread_over_their_quarters():
    """Two hours of Finland: (3000 x 12 + 1000 x 11) / 4000 = 11.75 and (3000 x 12 + 3000 x 11) / 6000 = 11.5."""
    slots = parsed("energy_charts_hourly").slots
    assert [s.start_s for s in slots] == [FIRST + 900 * i for i in range(8)]
    assert [s.gco2e_per_kwh for s in slots] == [11.75] * 4 + [11.5] * 4


def test_columns_that_are_too_short_or_no_numbers_are_missing_values():
    """Only the first slot has both kinds: (1000 x 12 + 1000 x 490) / 2000 = 251."""
    assert [s.gco2e_per_kwh for s in parsed("energy_charts_short").slots] == [251]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("energy_charts_uncovered", "at least 80% of it is reported and has a factor"),
        ("energy_charts_nothing", "got no slot"),
        ("energy_charts_error", "the service says 'country not found'"),
        ("energy_charts_empty", "got an empty body"),
        ("energy_charts_html", "expected JSON, got '<html>429"),
        ("energy_charts_truncated", "expected JSON, got"),
    ],
)
def test_an_answer_that_is_no_answer_is_refused(name, message):
    """The message says what came instead; an intensity of the covered fifth is none."""
    with pytest.raises(GridError, match=message):
        parsed(name)


def test_a_window_reaches_back_a_day_and_never_ahead():
    """The newest hours come late; the future is not asked for. The address is the same all through a slot."""
    now = FIRST + 100
    for later in (0, 700):
        (found,) = EC.request("DE", Window(start_s=now, end_s=now + 86_400), now + later)
        assert found.url == (
            "https://api.energy-charts.info/public_power?country=de"
            "&start=2026-03-01T00:00Z&end=2026-03-02T11:15Z"
        )


def test_it_knows_countries_of_europe_only():
    """By our ids."""
    assert EC.knows("DE")
    assert not EC.knows("US-CAL-CISO")
    assert not EC.knows("GB")
    assert len(COUNTRIES) == 32


_POWERS = st.lists(st.none() | st.floats(-1e5, 1e5) | st.just("x"), max_size=6)


@given(
    st.lists(st.integers(0, 40).map(lambda i: FIRST + 900 * i), max_size=6, unique=True),
    st.dictionaries(
        st.sampled_from(["Solar", "Fossil gas", "Others", "Load", "Hydro pumped storage"]), _POWERS
    ),
)
def test_any_table_gives_a_mix_between_the_cleanest_and_the_dirtiest(times, columns):
    """Or a GridError; a mix is never cleaner than wind nor dirtier than coal."""
    content = {
        "unix_seconds": times,
        "production_types": [{"name": n, "data": d} for n, d in columns.items()],
    }
    try:
        slots = EC.parse(json.dumps(content).encode(), Request(url="", what=HISTORY, place="DE")).slots
    except GridError:
        return
    assert all(11 <= s.gco2e_per_kwh <= 820 for s in slots)
    assert [s.start_s for s in slots] == sorted({s.start_s for s in slots})

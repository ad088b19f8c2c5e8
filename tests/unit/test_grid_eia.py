"""EIA: which hours are asked for, the intensity by hand, and what is left out of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import zones
from mlflow_carbon.grid.contract import HISTORY, Request, Window
from mlflow_carbon.grid.eia import RESPONDENTS, VARIABLE, EnergyInformationAdministration
from tests.grid_payloads import body, request

EIA = EnergyInformationAdministration()
HOUR, DAY = 3600, 86_400
FOUR = 1_772_424_000  # 2026-03-02T04:00Z


def parsed(name: str):
    """The answer of a payload."""
    return EIA.parse(body(name), request(name))


def spans(start_s: float, end_s: float, now_s: float) -> list[tuple[float, float]]:
    """First and last hour of each address as they are asked for, seconds since the epoch, by time."""
    found = EIA.request("US-CAL-CISO", Window(start_s=start_s, end_s=end_s), now_s)
    queries = [parse_qs(urlsplit(r.url).query) for r in found]
    return sorted((_epoch(q["start"][0]), _epoch(q["end"][0])) for q in queries)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_the_intensity_is_the_mean_of_the_mix():
    """Gas 10000, nuclear 2000, hydro 3000, wind 4000, geothermal 500 MW; solar below zero at night is none.

    10000 x 490 + 2000 x 12 + 3000 x 24 + 4000 x 11 + 500 x 38 = 5 059 000 over 19 500 MW = 259.436; other 500 MW
    have no factor: 2.5 % of 20 000. Battery and pumps are neither source nor sink.
    """
    slot = parsed("eia_day").slots[0]
    assert slot.gco2e_per_kwh == pytest.approx(5_059_000 / 19_500)
    assert slot.kind == "actual"
    assert slot.low_gco2e_per_kwh == pytest.approx(259.436 * 0.975 * 0.85, rel=1e-4)
    assert slot.high_gco2e_per_kwh == pytest.approx((259.436 + (1200 - 259.436) * 0.025) * 1.15, rel=1e-4)


def test_a_period_is_the_hour_that_ends_then():
    """`2026-03-02T05` is the hour from 04:00 to 05:00 UTC."""
    slot = parsed("eia_day").slots[0]
    assert (slot.start_s, slot.end_s) == (FOUR, FOUR + HOUR)


def test_pumping_is_no_negative_hydro_and_the_last_of_two_rows_counts():
    """Hydro -200 is zero; gas 9500: (9500 x 490 + 2000 x 12 + 5000 x 11 + 500 x 38) / 17 000 = 279.588."""
    assert parsed("eia_day").slots[1].gco2e_per_kwh == pytest.approx(4_753_000 / 17_000)


def test_an_hour_that_lacks_a_fuel_is_left_out():
    """Gas is null in the third hour, which would look very clean without it."""
    assert [s.start_s for s in parsed("eia_day").slots] == [FOUR, FOUR + HOUR]


def test_numbers_are_read_as_well_as_text():
    """(3000 x 490 + 1000 x 12) / 4000 = 370.5; an intensity is not refused for its spelling."""
    assert [s.gco2e_per_kwh for s in parsed("eia_numbers").slots] == [370.5]


def test_values_that_cannot_be_true_are_left_out():
    """Gas below zero, eight times as much as usual, 2^31 - 1 and text go with their hours.

    Of the last hour only solar is NaN, less than a twentieth of a usual hour: it stays.
    """
    assert [s.start_s for s in parsed("eia_bad_rows").slots] == [FOUR, FOUR + 5 * HOUR]


def test_an_answer_that_is_cut_off_loses_its_last_hour():
    """That hour may lack fuels; the service's own warning is passed on."""
    answer = parsed("eia_cut")
    assert [s.start_s for s in answer.slots] == [FOUR]
    assert answer.note.endswith(
        "; cut off after 5 rows, the last hour is left out; the service warns: incomplete return"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eia_error", "the service says 'An invalid api_key was supplied"),
        ("eia_limit", "the service says 'You have exceeded your rate limit"),
        ("eia_old_error", "the service says \"Invalid frequency 'hour'"),
        ("eia_other_respondent", "expected respondent 'CISO', got 'PJM'"),
        ("eia_units", "expected value-units 'megawatthours', got 'gigawatthours'"),
        ("eia_nothing", "got no slot"),
        ("eia_uncovered", "at least 80% of it is reported and has a factor"),
        ("eia_list", "expected rows under `response`"),
        ("eia_html", "expected JSON, got '<html>"),
        ("eia_empty", "got an empty body"),
        ("eia_truncated", "expected JSON, got"),
    ],
)
def test_an_answer_that_is_no_answer_is_refused(name, message):
    """The message says what came instead."""
    with pytest.raises(GridError, match=message):
        parsed(name)


def test_an_address_names_what_is_asked_and_no_secret():
    """The respondent, hours by their ends, and at most 5000 rows; the key is named by its variable only."""
    now = FOUR + 600
    (found,) = EIA.request("US-TEX-ERCO", Window(start_s=now, end_s=now + DAY), now)
    query = parse_qs(urlsplit(found.url).query)
    assert found.url.startswith("https://api.eia.gov/v2/electricity/rto/fuel-type-data/data/?")
    assert query["facets[respondent][]"] == ["ERCO"]
    assert (query["frequency"], query["data[0]"], query["length"]) == (["hourly"], ["value"], ["5000"])
    assert (query["start"], query["end"]) == (["2026-02-28T01"], ["2026-03-02T05"])
    assert "api_key" not in query
    assert found.token is not None
    assert (found.token.parameter, found.token.header, found.token.variable) == ("api_key", "", VARIABLE)
    assert VARIABLE in found.remedy


def test_the_address_is_the_same_for_all_of_an_hour():
    """It names what was asked, so that it need not be asked twice."""
    window = Window(start_s=FOUR, end_s=FOUR + 2 * DAY)
    assert EIA.request("US", window, FOUR + 1) == EIA.request("US", window, FOUR + 3599)


@given(
    start=st.integers(DAY * 10, 2_000_000_000), length=st.integers(0, 40 * DAY), ago=st.integers(0, 9 * DAY)
)
def test_the_questions_leave_no_gap_and_fit_into_an_answer(start, length, ago):
    """Each at most 12 days of 16 fuels, one after the other, from two days before the window to its end or now."""
    now_s = start + length - ago
    found = spans(start, start + length, now_s)
    assert all(HOUR <= last - first + HOUR <= 12 * DAY for first, last in found)
    assert all(b[0] == a[1] + HOUR for a, b in pairwise(found))
    assert found[0][0] - HOUR <= min(start, now_s) - 2 * DAY + HOUR
    end = min(start + length, now_s)
    assert end <= found[-1][1] < end + HOUR


def test_it_knows_authorities_of_the_usa_only():
    """By our ids, each of which the tables know; a state is none."""
    assert EIA.knows("US-CAL-CISO")
    assert not EIA.knows("US-CA")
    assert not EIA.knows("DE")
    assert set(RESPONDENTS) <= zones.known()


_VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.just("1000")


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "period": st.sampled_from(["2026-03-02T05", "2026-03-02T06", "2026-03-02T25", "x"]) | _VALUES,
                "fueltype": st.sampled_from(["NG", "COL", "WND", "OTH", "BAT"]) | _VALUES,
                "value": _VALUES,
            }
        )
        | _VALUES,
        max_size=12,
    )
)
def test_any_rows_give_a_mix_between_the_cleanest_and_the_dirtiest(rows):
    """Or a GridError; a mix is never cleaner than wind nor dirtier than coal."""
    content = json.dumps({"response": {"data": rows}}).encode()
    try:
        slots = EIA.parse(content, Request(url="", what=HISTORY, place="US-CAL-CISO")).slots
    except GridError:
        return
    assert all(11 <= s.gco2e_per_kwh <= 820.001 for s in slots)
    assert [s.start_s for s in slots] == sorted({s.start_s for s in slots})

"""ENTSO-E: what is asked, the intensity by hand from entsoe-py's reading, and what is left out of it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import Access, Window, annual, intensity, zones
from mlflow_carbon.grid.cache import Cache
from mlflow_carbon.grid.contract import HISTORY, Request
from mlflow_carbon.grid.entsoe import AREAS, FACTORS, VARIABLE, Entsoe
from mlflow_carbon.grid.zones import Zone
from mlflow_carbon.settings import Settings
from tests.grid_payloads import body, request

EN = Entsoe()
DAY = 86_400
FIRST = 1_772_449_200  # 2026-03-02T11:00Z


def parsed(name: str):
    """The answer of a payload."""
    return EN.parse(body(name), request(name))


def test_the_intensity_is_the_mean_of_the_mix():
    """Hydro 2000, biomass 4000, lignite and hard coal 14000, gas 8000, wind 20000 MW: as of Energy-Charts.

    2000 x 24 + 4000 x 230 + 14000 x 820 + 8000 x 490 + 20000 x 11 = 16 588 000 over 48 000 MW = 345.583; oil 400 and
    waste 600 MW have no factor. What pumps take and give, and what solar takes at night, stays out.
    """
    slot = parsed("entsoe_day").slots[0]
    assert (slot.start_s, slot.end_s, slot.kind) == (FIRST, FIRST + 900, "actual")
    assert slot.gco2e_per_kwh == pytest.approx(16_588_000 / 48_000)
    share = 1000 / 49_000
    assert slot.low_gco2e_per_kwh == pytest.approx(345.5833 * (1 - share) * 0.85, rel=1e-4)
    assert slot.high_gco2e_per_kwh == pytest.approx((345.5833 + (1200 - 345.5833) * share) * 1.15, rel=1e-4)


def test_a_slot_that_lacks_a_type_is_left_out():
    """Gas of the last quarter has not come yet, which would look very clean without it."""
    assert [s.start_s for s in parsed("entsoe_day").slots] == [FIRST, FIRST + 900, FIRST + 1800]


def test_hours_are_spread_over_their_quarters():
    """(20000 x 24 + 1000 x 11) / 21000 = 23.381 and (18000 x 24 + 2000 x 11) / 20000 = 22.7."""
    slots = parsed("entsoe_hourly").slots
    assert [s.start_s for s in slots] == [FIRST + 900 * i for i in range(8)]
    assert [s.gco2e_per_kwh for s in slots] == pytest.approx([491 / 21] * 4 + [22.7] * 4)


def test_types_of_other_rasters_meet_in_the_quarter():
    """Nuclear by the hour, gas by the quarter, wind written once for two hours (curve A03).

    (1000 x 12 + 1000 x 490 + 500 x 11) / 2500 = 203; with gas 3000: 1 487 500 / 4500; with nuclear 2000: 519 500 / 3500.
    """
    values = [s.gco2e_per_kwh for s in parsed("entsoe_mixed").slots]
    assert values == pytest.approx([203, 1_487_500 / 4500, 203, 203] + [519_500 / 3500] * 4)


def test_values_that_are_none_go_with_their_slots():
    """10^9 MW, infinity and NaN: (1000 x 490 + 1000 x 12) / 2000 = 251 is what is left."""
    assert [(s.start_s, s.gco2e_per_kwh) for s in parsed("entsoe_bad_values").slots] == [(FIRST, 251)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("entsoe_no_data", r"the service says 'No matching data found for .*\[16.1.B&C\]'"),
        ("entsoe_other_area", "expected inBiddingZone_Domain.mRID '10Y1001A1001A83F', got 10YFR-RTE------C"),
        ("entsoe_units", "expected quantity_Measure_Unit.name 'MAW', got KWT"),
        ("entsoe_consumption", "expected inBiddingZone_Domain.mRID '10Y1001A1001A83F', got none"),
        ("entsoe_uncovered", "at least 80% of it is reported and has a factor"),
        ("entsoe_unknown_type", "expected what entsoe-py can read, got KeyError: 'B99'"),
        ("entsoe_unknown_resolution", "can read, got NotImplementedError: .*PT7M"),
        ("entsoe_broken", "can read, got ValueError"),
        ("entsoe_cut", "expected a whole GL_MarketDocument, got one that is cut off"),
        ("entsoe_html", "expected a GL_MarketDocument, got '<html>"),
        ("entsoe_json", "expected a GL_MarketDocument, got '{"),
        ("entsoe_empty", "got an empty body"),
    ],
)
def test_an_answer_that_is_no_answer_is_refused(name, message):
    """The message says what came instead."""
    with pytest.raises(GridError, match=message):
        parsed(name)


def test_a_document_that_is_cut_off_would_be_read_as_clean():
    """Why its end is looked for: entsoe-py reads the rest without a word, here without its gas and wind."""
    from entsoe import parsers

    text = body("entsoe_cut").decode()
    table = parsers.parse_generation(text[text.index("<GL_MarketDocument") :])
    assert list(table.columns) == ["Biomass", "Fossil Brown coal/Lignite"]


def test_no_data_leaves_the_service_in_peace_about_this_place_only():
    """It comes as a good answer, and counts as a refusal: other places may still be asked."""
    with pytest.raises(GridError) as caught:
        parsed("entsoe_no_data")
    assert caught.value.is_refusal


def test_an_address_names_document_area_and_hours_and_no_secret():
    """A75 realised, the area by its EIC, from a day before the window to the end of this hour."""
    now = FIRST + 100
    for later in (0, 3400):
        (found,) = EN.request("SE-SE3", Window(start_s=now, end_s=now + DAY), now + later)
        assert found.url.startswith("https://web-api.tp.entsoe.eu/api?")
        assert parse_qs(urlsplit(found.url).query) == {
            "documentType": ["A75"],
            "processType": ["A16"],
            "in_Domain": ["10Y1001A1001A46L"],
            "periodStart": ["202603010000"],
            "periodEnd": ["202603021200"],
        }
        assert found.token is not None
        assert (found.token.parameter, found.token.variable) == ("securityToken", VARIABLE)
        assert VARIABLE in found.remedy


@given(
    start=st.integers(DAY * 10, 2_000_000_000), length=st.integers(0, 40 * DAY), ago=st.integers(0, 9 * DAY)
)
def test_the_questions_leave_no_gap_and_fit_into_an_answer(start, length, ago):
    """Each at most 10 days, newest first, from a day before the window to its end or now."""
    now_s = start + length - ago
    found = EN.request("DE", Window(start_s=start, end_s=start + length), now_s)
    queries = [parse_qs(urlsplit(r.url).query) for r in reversed(found)]
    spans = [tuple(_epoch(q[k][0]) for k in ("periodStart", "periodEnd")) for q in queries]
    assert all(0 < end - begin <= 10 * DAY for begin, end in spans)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert spans[0][0] <= min(start, now_s) - DAY + 3600
    assert 0 <= spans[-1][1] - min(start + length, now_s) < 3600


def _epoch(text: str) -> float:
    return datetime.strptime(text, "%Y%m%d%H%M").replace(tzinfo=UTC).timestamp()


def test_areas_and_types_are_those_of_the_library():
    """Each zone is ours and each area has a code; every type with a factor has a name."""
    from entsoe import mappings

    assert set(AREAS) <= zones.known()
    assert all(mappings.Area.has_code(area) for area in AREAS.values())
    assert set(FACTORS) <= set(mappings.PSRTYPE_MAPPINGS)


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    """The annual figure stands in, labelled; nobody is asked."""
    for name in ("entsoe", "entsoe.mappings", "entsoe.parsers"):
        monkeypatch.setitem(sys.modules, name, None)
    asked: list[Request] = []

    def fetch(question: Request) -> bytes:
        asked.append(question)
        return b""

    access = Access(
        cache=Cache(folder=tmp_path),
        fetch=fetch,
        env={VARIABLE: "s3cret"},
        tables=annual.installed(),
    )
    found = intensity(
        Settings(grid="entsoe"),
        Zone(id="DE", source="argument"),
        window=Window(start_s=FIRST, end_s=FIRST + 900),
        access=access,
        now_s=FIRST,
    )
    assert found.note.startswith(
        "grid=entsoe needs entsoe-py: pip install mlflow-carbon[entsoe]; annual figure used instead"
    )
    assert (found.at(FIRST).kind, asked) == ("static", [])
    assert EN.knows("DE")  # which needs no library


def test_the_library_is_not_loaded_before_it_is_used():
    """The package's import, and the table of providers, stay light."""
    import subprocess

    code = (
        "import sys, mlflow_carbon.grid; print([m for m in ('entsoe', 'pandas', 'bs4') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_TAGS = st.sampled_from(
    [
        "<TimeSeries>",
        "</TimeSeries>",
        "<inBiddingZone_Domain.mRID>10Y1001A1001A83F</inBiddingZone_Domain.mRID>",
        "<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name>",
        "<curveType>A03</curveType>",
        "<MktPSRType><psrType>B04</psrType></MktPSRType>",
        "<Period><timeInterval><start>2026-03-02T11:00Z</start><end>2026-03-02T12:00Z</end></timeInterval>",
        "<resolution>PT15M</resolution>",
        "<Point><position>1</position><quantity>5</quantity></Point>",
        "<Point><position>-7</position><quantity>x</quantity></Point>",
        "</Period>",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_TAGS | st.text(max_size=5), max_size=14))
def test_nothing_but_a_grid_error_leaves_the_parser(tags):
    """Any document gives a mix between the cleanest and the dirtiest, or a GridError."""
    text = f"<GL_MarketDocument>{''.join(tags)}</GL_MarketDocument>".encode("utf-8", "replace")
    try:
        slots = EN.parse(text, Request(url="", what=HISTORY, place="DE")).slots
    except GridError:
        return
    assert all(11 <= s.gco2e_per_kwh <= 820 for s in slots)

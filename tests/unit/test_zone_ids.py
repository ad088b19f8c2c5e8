"""The quick look-up of zone ids, against the tables that the slow one loads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.grid import zones
from mlflow_carbon.zone_ids import is_known


def test_every_id_of_the_tables_is_known_in_any_case():
    """As written, in small letters, with underscores and with blanks around it."""
    for zone_id in zones.known():
        assert is_known(zone_id)
        assert is_known(f" {zone_id.lower().replace('-', '_')} ")


@given(st.one_of(st.text(max_size=12), st.from_regex(r"[A-Z]{1,3}(-[A-Z0-9]{1,4}){0,2}", fullmatch=True)))
def test_it_knows_what_the_tables_know(text):
    """Whatever is asked, both agree on what is an id."""
    assert is_known(text) == (text.strip().upper().replace("_", "-") in zones.known())


@pytest.mark.parametrize(
    "text", ["", "-", "zone", "Germany", "DEU", "GB,", "GB\n", "DE\nFR", "DE,DEU", '"DE"', "\uff24\uff25"]
)
def test_other_names_and_bad_input_are_no_ids(text):
    """Headers, names, alpha-3 codes, quotes, commas and wide letters; a blank line end is cut off as blanks are."""
    assert is_known(text) is (text.strip() == "GB")

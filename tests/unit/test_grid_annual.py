"""Annual factors: the right figure, its scope, its range and its label."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mlflow_carbon.grid import annual, zones
from mlflow_carbon.grid.zones import Zone

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_carbon.core.carbon import IntensitySeries

TABLES = annual.installed()


def of(zone_id: str, region: str = "") -> IntensitySeries:
    """The series of a zone from the installed tables."""
    return annual.series(Zone(id=zone_id, source="argument", region=region), tables=TABLES)


def write(folder: Path, name: str, content: object) -> None:
    """One table file, as text or as JSON."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("zone_id", "value"), [("GB", 237.6), ("DE", 380.95), ("FR", 56.0), ("PL", 661.9), ("SE", 40.7)]
)
def test_country_figures_are_codecarbons(zone_id, value):
    """Five figures of CodeCarbon 3.3.2, read off its table by hand."""
    series = of(zone_id)
    assert series.static.gco2e_per_kwh == pytest.approx(value, abs=0.05)
    assert series.scope == "life cycle"
    assert (series.provider, series.static.kind, series.slots) == ("codecarbon", "static", ())


def test_the_label_names_publisher_year_version_and_file():
    """A reader can find the number again."""
    assert TABLES is not None
    assert of("GB").dataset == (
        f"Our World in Data 2023 (CodeCarbon {TABLES.version}, private_infra/global_energy_mix.json)"
    )


def test_a_static_figure_covers_all_times_with_twenty_percent():
    """One slot from the epoch to the year 9999, +-20 %."""
    slot = of("DE").static
    assert slot.start_s == 0
    assert slot.end_s == 253_402_300_799
    assert slot.low_gco2e_per_kwh == pytest.approx(slot.gco2e_per_kwh * 0.8)
    assert slot.high_gco2e_per_kwh == pytest.approx(slot.gco2e_per_kwh * 1.2)


def test_a_state_is_converted_from_pounds():
    """California: 394.769 lb/MWh x 453.59237 g/lb / 1000 kWh/MWh = 179.064 g/kWh, direct."""
    for zone_id in ("US-CA", "US-CAL-CISO"):
        series = of(zone_id)
        assert series.static.gco2e_per_kwh == pytest.approx(179.064, abs=0.001)
        assert series.scope == "direct"
        assert series.dataset.startswith("EPA eGRID 2023, California")


def test_a_bidding_zone_has_its_own_figure_and_its_warning():
    """NO4 is not Norway; SE4 says that it is a lower bound."""
    assert of("NO-NO4").static.gco2e_per_kwh == pytest.approx(51.7)
    assert "Lower bound" in of("SE-SE4").note


def test_an_area_over_several_states_takes_the_country_and_says_so():
    """PJM has no figure of its own."""
    series = of("US-MIDA-PJM")
    assert series.static.gco2e_per_kwh == pytest.approx(369.5, abs=0.05)
    assert series.note == "no figure for US-MIDA-PJM: the figure of US is used"


@pytest.mark.parametrize(
    ("region", "zone_id", "value"),
    [
        ("gcp:europe-west2", "GB", 136),
        ("gcp:me-central1", "QA", 575),
        ("gcp:northamerica-northeast1", "CA", 2),
    ],
)
def test_googles_own_figure_is_used_for_its_region(region, zone_id, value):
    """The region's figure wins over the country's; one name is misspelt in the table."""
    series = of(zone_id, region)
    assert series.static.gco2e_per_kwh == value
    assert series.scope == "direct"
    assert "year not stated" in series.dataset


def test_a_region_without_a_figure_takes_its_country():
    """Neither a new Google region nor an Amazon one has a row."""
    for region in ("gcp:atlantis-west1", "aws:eu-west-2"):
        assert of("GB", region).static.gco2e_per_kwh == pytest.approx(237.6, abs=0.05)


def test_the_world_average_has_the_range_of_the_countries():
    """475 g, and the middle 95 % of 212 country figures by nearest rank."""
    series = of("WORLD")
    assert series.static.gco2e_per_kwh == 475
    assert series.static.low_gco2e_per_kwh == pytest.approx(24.457)
    assert series.static.high_gco2e_per_kwh == pytest.approx(893.913)
    assert "world average" in series.note


@pytest.mark.parametrize("zone_id", ["CF", "LI"])
def test_a_country_without_a_figure_is_the_world_average_with_a_note(zone_id):
    """The Central African Republic is 0.0 in the table, which means missing; Liechtenstein is not there."""
    series = of(zone_id)
    assert series.static.gco2e_per_kwh == 475
    assert series.zone == zone_id
    assert f"no figure for {zone_id}" in series.note


def test_without_codecarbon_the_built_in_world_average_is_used():
    """No tables, no failure: the label says where the number comes from."""
    series = annual.series(Zone(id="GB", source="argument"), tables=None)
    assert series.static.gco2e_per_kwh == 475
    assert "built-in" in series.dataset


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"GBR": 3}',
        '{"GBR": {"carbon_intensity": "much"}}',
        '{"GBR": {"carbon_intensity": 1e9}}',
    ],
)
def test_a_damaged_table_falls_back_with_a_note(tmp_path, content):
    """Whatever is in the file, there is a figure and an explanation."""
    write(tmp_path, "private_infra/global_energy_mix.json", content)
    series = annual.series(
        Zone(id="GB", source="argument"), tables=annual.Tables(folder=tmp_path, version="0")
    )
    assert series.static.gco2e_per_kwh == 475
    assert "no figure for GB" in series.note
    assert "cannot be read" in series.note


def test_every_zone_has_a_figure():
    """No zone of our tables raises, and each range holds its value."""
    for zone_id in sorted(zones.known()):
        slot = of(zone_id).static
        assert 0 < slot.low_gco2e_per_kwh <= slot.gco2e_per_kwh <= slot.high_gco2e_per_kwh < 5000


def test_codecarbon_is_not_imported(tmp_path):
    """Finding its data files costs no import of the package (half a second and 120 MB)."""
    import subprocess
    import sys

    code = "import sys; from mlflow_carbon.grid import annual; assert annual.installed(); print('codecarbon' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

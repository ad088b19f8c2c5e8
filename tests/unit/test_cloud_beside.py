"""The provider's figures and ours side by side: places, sums, and no run twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.cloud import BesideRow, Line, MeasuredRun, beside, not_nested

ZONES = {"eu-west-2": "GB", "ap-northeast-1": "JP", "ap-northeast-3": "JP"}


def zone_of(_provider: str, region: str) -> str:
    """Zone of a few regions."""
    return ZONES.get(region, "")


def line(region: str, kg: float, *, month="2025-04", scope="total", method="location") -> Line:
    """A figure of a provider."""
    return Line(
        provider="aws",
        month=month,
        region=region,
        service="AmazonEC2",
        account="1",
        scope=scope,
        method=method,
        kgco2e=kg,
    )


def run(id_: str, zone: str, kwh: float, grams: float | None, *, month="2025-04") -> MeasuredRun:
    """One of our runs."""
    return MeasuredRun(id=id_, month=month, zone=zone, energy_kwh=kwh, emissions_gco2e=grams)


def test_months_and_zones_stand_side_by_side():
    """Two regions of Japan are one zone; methods and scopes are never added; grams become kg."""
    lines = [
        line("eu-west-2", 12.5),
        line("eu-west-2", 1.5),
        line("eu-west-2", 4.5, method="market"),
        line("eu-west-2", 8.0, scope="2"),
        line("ap-northeast-1", 1.0),
        line("ap-northeast-3", 2.0),
    ]
    runs = [run("a", "GB", 2.0, 300.0), run("b", "GB", 1.0, 200.0), run("c", "FR", 4.0, None)]
    assert beside(lines, runs, zone_of=zone_of) == [
        BesideRow(
            month="2025-04",
            zone="FR",
            regions=(),
            location_kg=None,
            market_kg=None,
            scope2_location_kg=None,
            runs=1,
            energy_kwh=4.0,
            emissions_kg=None,
        ),
        BesideRow(
            month="2025-04",
            zone="GB",
            regions=("eu-west-2",),
            location_kg=14.0,
            market_kg=4.5,
            scope2_location_kg=8.0,
            runs=2,
            energy_kwh=3.0,
            emissions_kg=0.5,
        ),
        BesideRow(
            month="2025-04",
            zone="JP",
            regions=("ap-northeast-1", "ap-northeast-3"),
            location_kg=3.0,
            market_kg=None,
            scope2_location_kg=None,
        ),
    ]


def test_runs_of_other_months_and_regions_without_a_zone():
    """A month that the export lacks is not compared; what has no zone stands under none."""
    rows = beside(
        [line("global", 1.0)], [run("a", "GB", 1, 1), run("b", "GB", 9, 9, month="2025-05")], zone_of=zone_of
    )
    assert [(r.zone, r.location_kg, r.runs) for r in rows] == [("", 1.0, 0), ("GB", None, 1)]


def test_a_nested_run_is_inside_the_outermost_measured_one():
    """Children count where no run around them was measured, also across one that was not."""
    parents = {"child": "parent", "grandchild": "step", "step": "parent", "lost": "elsewhere", "b": "a"}
    measured = ["parent", "child", "grandchild", "lost", "b", "alone"]
    assert not_nested(parents, measured) == {"parent", "lost", "b", "alone"}


def test_parents_in_a_circle_end():
    """Tags may say anything."""
    assert not_nested({"a": "b", "b": "a", "c": "c"}, ["c"]) == {"c"}
    assert not_nested({"a": "b", "b": "a"}, ["a"]) == {"a"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["eu-west-2", "ap-northeast-1", "moon"]),
            st.sampled_from(["2025-04", "2025-05"]),
            st.integers(0, 1000),
        )
    )
)
def test_nothing_is_lost_and_nothing_counts_twice(figures):
    """The rows add up to the export, whatever its regions and months."""
    lines = [line(region, float(kg), month=month) for region, month, kg in figures]
    rows = beside(lines, [], zone_of=zone_of)
    assert sum(r.location_kg or 0 for r in rows) == sum(kg for _, _, kg in figures)
    assert len({(r.month, r.zone) for r in rows}) == len(rows)

"""Carbon exports of clouds: what each row says, and everything that would make a sum wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon import cloud
from mlflow_carbon.cloud.contract import month_of, number
from mlflow_carbon.cloud.exports import EXPORTS, lines_of
from mlflow_carbon.errors import ExportError

DATA = Path(__file__).parents[1] / "data/cloud"
GCP = b"usage_month,project.id,location.region,carbon_footprint_total_kgCO2e.location_based\n"


def total(export: cloud.Export, method: str, *, scope: str = "total", region: str | None = None) -> float:
    """Sum over an export."""
    return sum(
        x.kgco2e
        for x in export.lines
        if (x.scope, x.method) == (scope, method) and region in (None, x.region)
    )


def test_aws_gives_scopes_and_methods_in_kg():
    """Tonnes become kg; London of April is 12.5 + 1.5 kg location-based, 8 + 0.8 of it scope 2."""
    export = cloud.read(DATA / "aws_v3.csv")
    april = [x for x in export.lines if (x.month, x.region) == ("2025-04", "eu-west-2")]
    assert sum(x.kgco2e for x in april if (x.scope, x.method) == ("total", "location")) == pytest.approx(14)
    assert sum(x.kgco2e for x in april if (x.scope, x.method) == ("2", "location")) == pytest.approx(8.8)
    assert sum(x.kgco2e for x in april if x.scope == "1") == pytest.approx(0.6)
    assert {x.service for x in april} == {"AmazonEC2", "AmazonS3"}
    assert {x.account for x in export.lines} == {"444455556666"}
    assert {x.month for x in export.lines} == {"2025-04", "2025-05"}
    assert export.shape.provider == "aws"
    assert export.notes == ()


def test_empty_cells_of_aws_are_no_zeros():
    """Global services have no scopes here: there are no lines of them, and the place stands for the region."""
    everywhere = [x for x in cloud.read(DATA / "aws_v3.csv").lines if x.service == "AmazonCloudFront"]
    assert {(x.scope, x.method, x.region) for x in everywhere} == {
        ("total", "location", "Global Services"),
        ("total", "market", "Global Services"),
    }


def test_older_aws_files_have_market_based_totals_only():
    """Method v2 without location-based columns is read as it is."""
    export = cloud.read(DATA / "aws_v2.csv")
    assert [(x.method, x.kgco2e, x.model) for x in export.lines] == [("market", 250.0, "v2.0.0")]


def test_of_two_methods_of_a_month_the_newer_counts():
    """Version 10 is newer than version 2, and what is left out is said."""
    export = cloud.read(DATA / "aws_two_models.csv")
    assert [x.kgco2e for x in export.lines] == [200.0]
    assert export.notes == ("2025-01: method v2.0.0 left out, v10.0.0 counts",)


def test_google_is_read_under_both_spellings():
    """Dots as in the documents, or underscores as BigQuery needs them; zones of one region add up."""
    dotted = cloud.read(DATA / "gcp_dotted.csv")
    assert total(dotted, "location", region="us-central1") == pytest.approx(1587.300025)
    assert total(dotted, "market") == pytest.approx(589.300015)
    assert total(dotted, "", scope="3") == pytest.approx(987.200005)
    assert {x.account for x in dotted.lines} == {"my-project", "007GD7-15C0E6-BDE6B3"}
    plain = cloud.read(DATA / "gcp_underscored.csv")
    assert [(x.month, x.region, x.kgco2e) for x in plain.lines] == [("2025-04", "europe-west2", 12.5)]


def test_azure_is_read_from_the_page_and_from_the_api():
    """Details take their month from the file's name; places are regions as Azure writes them."""
    details = cloud.read(DATA / "azure_EmissionDetails-Subscription-Apr2025.csv")
    assert {x.month for x in details.lines} == {"2025-04"}
    assert total(details, "market") == pytest.approx(13.481892316510078)
    trends = cloud.read(DATA / "azure_trends.csv")
    assert [(x.month, x.kgco2e) for x in trends.lines if x.scope == "total"] == [
        ("2025-04", 13.5),
        ("2025-05", 12.8),
    ]
    items = cloud.read(DATA / "azure_items_2025-04.csv")
    assert {(x.region, x.kgco2e) for x in items.lines} == {("westeurope", 8.25), ("uksouth", 1.5)}
    months = cloud.read(DATA / "azure_months.csv")
    assert [(x.month, x.kgco2e, x.method) for x in months.lines] == [("2025-04", 9.75, "market")]


def test_a_month_that_nobody_says_is_asked_for(tmp_path):
    """Without a month in the name the option says it; a wrong one is refused."""
    file = tmp_path / "details.csv"
    file.write_bytes((DATA / "azure_EmissionDetails-Subscription-Apr2025.csv").read_bytes())
    with pytest.raises(ExportError, match="does not say of which month it is: give --month"):
        cloud.read(file)
    assert {x.month for x in cloud.read(file, month="2025-03").lines} == {"2025-03"}
    with pytest.raises(ExportError, match="expected a month such as 2025-04"):
        cloud.read(file, month="2025-13")


def test_bom_gzip_and_blank_lines_do_no_harm(tmp_path):
    """What spreadsheets and AWS add is taken off."""
    content = (DATA / "gcp_underscored.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") + b"\r\n,,,\r\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "wide.csv").write_bytes(content.decode().encode("utf-16"))
    for name in ("a.csv", "a.csv.gz", "wide.csv"):
        assert [x.kgco2e for x in cloud.read(tmp_path / name).lines] == [12.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"\xef\xbb\xbf \n", "got an empty file"),
        (b"<!DOCTYPE html><html>Sign in</html>", "expected CSV, got HTML"),
        (b'{"value": []}', "expected CSV, got JSON"),
        (b"PAR1\x15\x04", "expected CSV, got a Parquet file"),
        (b"PK\x03\x04 zip", "expected CSV, got a ZIP archive"),
        (b"usage_month\xff\xfe\x00", "expected UTF-8 text"),
        (b"date,watts\n1,2\n", "expected the header of a carbon export, got 'date, watts'"),
        (
            b"usage_month,location.regoin,carbon_footprint_kgCO2e.scope1\n",
            r"missing location_region \(is it location_regoin\?\)",
        ),
        (
            b"usage_month,location.region\n2025-04-01,x\n",
            "missing carbon_footprint_total_kgco2e_location_based",
        ),
        (GCP, "expected rows of emissions below the header, got none"),
        (GCP.replace(b",", b";"), "expected commas between columns, got semicolons"),
        (GCP.replace(b",", b"\t"), "expected commas between columns, got tabs"),
        (GCP.replace(b"project.id", b"location_region"), "got several of location_region"),
        (GCP + b"2025-04-01,p,r,-1\n", "row 2: .*expected at least 0, got -1"),
        (GCP + b"2025-04-01,p,r,lots\n", "row 2: .*expected a number, got 'lots'"),
        (GCP + b"2025-04-01,p,r,NaN\n", "expected a number, got 'NaN'"),
        (GCP + b"2025-04-01,p,r,1e999\n", "expected a number"),
        (GCP + b'2025-04-01,p,r,"1,5"\n', "expected a number with a decimal point, got '1,5'"),
        (GCP + b'2025-04-01,p,r,"1.234,56"\n', "decimal point"),
        (GCP + b"2025-04-01,p,r,1,5\n", "row 2: expected 4 cells, got 5; a decimal comma"),
        (GCP + b"April,p,r,1\n", "expected a month such as 2025-04 or Apr 2025, got 'April'"),
        (GCP + b"2025-00-01,p,r,1\n", "expected a month"),
        (GCP + b"2025-04-01,p,r,1\n2025-04-01,p,r,2\n", "row 3: .*got that of row 2 again"),
        (GCP + b'2025-04-01,"p,r,1\n', "expected CSV"),
        (GCP + b"2025-04-01,p\0,r,1\n", "zero bytes"),
    ],
)
def test_what_cannot_be_counted_is_refused_and_says_where(content, message):
    """Each message says what was expected and what was got."""
    with pytest.raises(ExportError, match=message):
        lines_of(content)


def test_files_that_cannot_be_opened_are_named(tmp_path):
    """A missing file, a folder and a broken archive are named with the reason."""
    broken = tmp_path / "half.csv.gz"
    broken.write_bytes(gzip.compress(b"usage_month" * 100)[:-20])
    for path in (tmp_path / "none.csv", tmp_path, broken):
        with pytest.raises(ExportError, match=f"{path.name}: cannot be read"):
            cloud.read(path)


def test_an_unknown_unit_is_refused():
    """Pounds are not taken for tonnes."""
    content = (DATA / "aws_v2.csv").read_bytes().replace(b"MTCO2e", b"lbCO2e")
    with pytest.raises(ExportError, match="expected MTCO2e, kgCO2e or gCO2e, got 'lbCO2e'"):
        lines_of(content)
    in_kg = (DATA / "aws_v2.csv").read_bytes().replace(b"MTCO2e", b"kgCO2e")
    assert [x.kgco2e for x in lines_of(in_kg).lines] == [0.25]


def test_rows_of_totals_are_left_out_and_counted():
    """A sum of the other rows would count them twice."""
    export = lines_of(GCP + b"2025-04-01,p,r,2\nTotal,,,2\n2025-04-01,Grand Total,r,2\n")
    assert [x.kgco2e for x in export.lines] == [2.0]
    assert export.notes == ("2 row(s) of totals left out: they are sums of the others",)


def test_a_second_delivery_is_refused_although_its_time_differs():
    """The time of refresh does not tell two rows apart."""
    row = b"2025-0%d-21 00:00:00Z,Europe (Ireland),v2.0.0,1,AmazonEC2,eu-west-1,MTCO2e,0.25,1,,2025-01-01\n"
    header = (DATA / "aws_v2.csv").read_bytes().splitlines(keepends=True)[0]
    with pytest.raises(ExportError, match="got that of row 2 again"):
        lines_of(header + row % 4 + row % 5)


def test_every_shape_is_told_from_the_others():
    """A file with exactly the columns of a shape is of that shape."""
    for shape in EXPORTS:
        header = ",".join([*shape.required, *shape.figures])
        with pytest.raises(ExportError) as caught:
            lines_of(f"{header}\n".encode(), month="2025-04")
        assert "expected rows of emissions" in str(caught.value)


@given(st.floats(min_value=0, max_value=1e12))
def test_numbers_are_read_as_python_writes_them(value):
    """Whatever a float looks like, it comes back the same."""
    assert number({"x": repr(value)}, "x") == value


@given(st.integers(2000, 2100), st.integers(1, 12))
def test_months_of_dates_and_words_agree(year, month):
    """A date, a time and words give one month."""
    word = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1]
    expected = f"{year}-{month:02}"
    for text in (expected, f"{expected}-01", f"{expected}-01T00:00:00.000Z", f"{word} {year}"):
        assert month_of(text, "x") == expected


@given(st.binary(max_size=200))
def test_whatever_a_file_holds_it_is_read_or_refused(content):
    """No bytes make it fail otherwise."""
    for head in (b"", GCP):
        try:
            lines_of(head + content, month="2025-04")
        except ExportError:
            continue

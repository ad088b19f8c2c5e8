"""Settings: which source wins, and what is said about a bad value."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest

from mlflow_carbon.errors import CarbonError, SettingsError
from mlflow_carbon.settings import (
    ENV_PREFIX,
    FILE_NAME,
    Overrides,
    Settings,
    home,
    is_disabled,
    resolve,
    wants_autolog,
)

# One value per setting, written as in a file or a variable, and what it becomes.
VALUES = {
    "zone": ("GB", "GB"),
    "grid": ("gb", "gb"),
    "intensity_gco2e_per_kwh": ("12.5", 12.5),
    "pue": ("1.4", 1.4),
    "period_s": ("0.5", 0.5),
    "cpu_power_w": ("65", 65.0),
    "ram_power_w": ("8", 8.0),
    "wall_meter": ("https://meter/status#apower", "https://meter/status#apower"),
    "privacy": ("full", "full"),
    "detail": ("true", True),
    "cloud_metadata": ("yes", True),
}


@pytest.fixture
def configured(tmp_path):
    """Settings of a file's text and variables, with no other file in reach."""

    def found(text=None, overrides=None, **env):
        variables = {f"{ENV_PREFIX}{name}": value for name, value in env.items()}
        path = tmp_path / "settings.yaml"
        path.write_text(text or "", encoding="utf-8")
        return resolve(overrides, env={f"{ENV_PREFIX}CONFIG": str(path), **variables}, cwd=tmp_path)

    return found


def test_without_anything_the_defaults_stand(configured):
    """PUE 1.0, one reading a second, hashed names, and the sources say so."""
    found, problems = configured()
    assert found == Settings()
    assert (found.pue, found.period_s, found.privacy) == (1.0, 1.0, "hashed")
    assert (found.pue_source, found.zone_source) == ("default", "")
    assert problems == []


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_can_come_from_every_source(configured, name):
    """A file, a variable and an argument give the same value, numbers as text included."""
    text, value = VALUES[name]
    for found, problems in (
        configured(f"{name}: {text}"),
        configured(**{name.upper(): text}),
        configured(overrides={name: text}),
        configured(overrides={name: value}),
    ):
        assert getattr(found, name) == value
        assert type(getattr(found, name)) is type(value)
        assert problems == []


def test_the_table_of_this_test_is_complete():
    """Every setting is tried, and every one can be given to `autolog`."""
    names = {f.name for f in fields(Settings) if not f.name.endswith("_source")} - {"problems"}
    assert names == set(VALUES) == set(Overrides.__annotations__)


def test_argument_before_variable_before_file(configured):
    """The nearer source wins, setting by setting, and zone and PUE say which it was."""
    text = "zone: DE\npue: 1.1\nperiod_s: 2"
    found, _ = configured(text)
    assert (found.zone, found.zone_source, found.pue_source) == ("DE", "file", "file")
    found, _ = configured(text, ZONE="FR", PUE="1.2")
    assert (found.zone, found.zone_source, found.pue_source) == ("FR", "environment", "environment")
    found, _ = configured(text, {"zone": "GB"}, ZONE="FR", PUE="1.2")
    assert (found.zone, found.zone_source, found.pue_source) == ("GB", "argument", "environment")
    assert (found.pue, found.period_s) == (1.2, 2.0)


def test_none_is_as_if_it_were_not_given(configured):
    """An argument of None leaves the variable in force."""
    assert configured(None, {"zone": None}, ZONE="FR")[0].zone == "FR"


def test_empty_values_are_not_given(configured):
    """An empty variable and a bare `name:` in the file are no settings, and no problem."""
    assert configured("zone:\npue: 1.3", PUE="") == (Settings(pue=1.3, pue_source="file"), [])


_NUMBER = "expected a number from {low} to {high}, got {raw!r}"
BAD = [
    ("pue", "0.9", _NUMBER.format(low=1, high=10, raw="0.9")),
    ("pue", "nan", _NUMBER.format(low=1, high=10, raw="nan")),
    ("pue", "inf", _NUMBER.format(low=1, high=10, raw="inf")),
    ("pue", "much", _NUMBER.format(low=1, high=10, raw="much")),
    ("period_s", "0.01", _NUMBER.format(low=0.05, high=60, raw="0.01")),
    ("period_s", "61", _NUMBER.format(low=0.05, high=60, raw="61")),
    ("intensity_gco2e_per_kwh", "-1", _NUMBER.format(low=0, high=5000, raw="-1")),
    ("cpu_power_w", "1e6", _NUMBER.format(low=0, high="100000", raw="1e6")),
    ("ram_power_w", "-0.1", _NUMBER.format(low=0, high="100000", raw="-0.1")),
    (
        "grid",
        "GB",
        "expected one of auto, annual, gb, electricity_maps, energy_charts, eia, entsoe, watttime, recorded, diurnal, got 'GB'",
    ),
    (
        "grid",
        "energy-chart",
        "expected one of auto, annual, gb, electricity_maps, energy_charts, eia, entsoe, watttime, recorded, diurnal, got 'energy-chart'; did you mean energy_charts?",
    ),
    ("grid", "recorded", "expected a CSV file, as in recorded:trace.csv, got 'recorded'"),
    ("grid", "recorded:", "expected a CSV file, as in recorded:trace.csv, got 'recorded:'"),
    ("grid", "diurnal:x", "expected a whole number as seed, as in diurnal:7, got 'diurnal:x'"),
    ("grid", "annual:x", "expected nothing after the name, got 'annual:x'"),
    ("grid", "gb:SW7 2AZ", "expected the outward part of a postcode, as in gb:SW7, got 'gb:SW7 2AZ'"),
    ("privacy", "on", "expected one of hashed, full, off, got 'on'"),
    ("detail", "maybe", "expected true or false, got 'maybe'"),
    ("zone", "  ", "expected a zone id such as GB or US-CAL-CISO, got '  '"),
]


@pytest.mark.parametrize(("name", "raw", "message"), BAD)
def test_a_bad_value_raises_as_an_argument_and_is_reported_from_elsewhere(configured, name, raw, message):
    """The caller can mend an argument; a variable or a file must not stop a training."""
    with pytest.raises(SettingsError) as caught:
        configured(overrides={name: raw})
    assert str(caught.value) == f"{name}: {message}"
    assert isinstance(caught.value, CarbonError)
    for source, (found, problems) in (
        ("file", configured(f"{name}: '{raw}'")),
        ("environment", configured(**{name.upper(): raw})),
    ):
        assert problems == [f"{source}: {name}: {message}"]
        assert found == Settings()


@pytest.mark.parametrize(
    ("name", "raw"),
    [("pue", math.nan), ("pue", math.inf), ("pue", True), ("pue", [1.2]), ("period_s", -1), ("pue", 10**400)],
)
def test_arguments_that_are_no_numbers_are_refused(configured, name, raw):
    """NaN, infinity, booleans and lists: `pue=True` is no PUE of 1."""
    with pytest.raises(SettingsError, match=f"{name}: expected a number from"):
        configured(overrides={name: raw})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("gb:sw7", "gb:SW7"),
        ("recorded:a:b.csv", "recorded:a:b.csv"),
        ("diurnal:7", "diurnal:7"),
        ("diurnal", "diurnal"),
    ],
)
def test_a_source_may_have_something_after_a_colon(configured, given, kept):
    """A postcode, a file, a seed."""
    assert configured(GRID=given)[0].grid == kept


def test_the_token_of_a_service_is_no_setting(configured):
    """It is read where it is needed, kept nowhere, and is no unknown variable."""
    found, problems = configured(ELECTRICITY_MAPS_TOKEN="secret")  # noqa: S106 - opens nothing
    assert problems == []
    assert "secret" not in repr(found)


@pytest.mark.parametrize("raw", [False, 7, ["GB"]])
def test_a_zone_is_a_word(configured, raw):
    """`zone=False` is not Norway."""
    with pytest.raises(SettingsError, match="zone: expected a zone id such as GB"):
        configured(overrides={"zone": raw})


def test_a_bad_variable_leaves_the_file_in_force(configured):
    """What cannot be used is left out; it does not fall through to the default."""
    found, problems = configured("pue: 1.3", PUE="0.5")
    assert (found.pue, found.pue_source) == (1.3, "file")
    assert problems == ["environment: pue: expected a number from 1 to 10, got '0.5'"]


def test_norway_and_off_can_be_written_in_a_file(configured):
    """YAML 1.1 reads `NO` and `off` as false; here they are the zone and the choice."""
    found, problems = configured("zone: NO\nprivacy: off\ndetail: on")
    assert (found.zone, found.privacy, found.detail) == ("NO", "off", True)
    assert problems == []


@pytest.mark.parametrize(
    ("raw", "value"),
    [("1", True), ("YES", True), (" on ", True), ("0", False), ("No", False), ("off", False)],
)
def test_words_for_yes_and_no(configured, raw, value):
    """In any case and with blanks around."""
    assert configured(DETAIL=raw) == (Settings(detail=value), [])


def test_an_unknown_argument_is_refused_with_the_nearest_name(configured):
    """A typing error is told what it may have meant."""
    with pytest.raises(SettingsError) as caught:
        configured(overrides={"zoen": "GB"})
    assert str(caught.value) == (
        "unknown setting 'zoen': expected one of zone, grid, intensity_gco2e_per_kwh, pue, period_s, "
        "cpu_power_w, ram_power_w, wall_meter, privacy, detail, cloud_metadata; did you mean zone?"
    )


def test_unknown_names_in_file_and_environment_are_reported(configured):
    """The rest of the file counts; names that are nothing like a setting get no suggestion."""
    found, problems = configured("pue: 1.3\nperiod: 5\n7: x", QWXYZ="1")
    assert found.pue == 1.3
    assert len(problems) == 3
    assert "unknown setting 'period'" in problems[0]
    assert problems[0].endswith("did you mean period_s?")
    assert "unknown setting '7'" in problems[1]
    assert problems[2].startswith("environment: unknown setting 'MLFLOW_CARBON_QWXYZ': expected one of")
    assert problems[2].endswith("privacy, detail, cloud_metadata")


def test_sources_are_not_settings(configured):
    """`zone_source` is a result, nothing a user can set."""
    assert "unknown setting 'zone_source'" in configured("zone_source: argument")[1][0]


def test_variables_that_are_no_settings_are_let_alone(configured):
    """The switches, the folders and the owner share the prefix."""
    switches = {"AUTOLOG": "1", "DATA": "/data", "DISABLE": "0", "HOME": "/home", "OWNER": "1:abc"}
    assert configured(**switches) == (Settings(), [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("zone: [GB", "expected YAML `name: value` lines, got while parsing a flow sequence"),
        ("zone: GB\n\tpue: 1", "expected YAML `name: value` lines, got while scanning"),
        ("- zone", "expected `name: value` lines, got a list"),
        ("just words", "expected `name: value` lines, got a str"),
        ("a: &x\n  <<: *x", "expected YAML `name: value` lines, got"),
        ("zone: !!python/object/apply:os.getcwd []", "zone: expected a zone id"),
    ],
)
def test_a_damaged_file_is_one_problem(configured, text, complaint):
    """In one line, with the file's name, and nothing in it is run."""
    found, problems = configured(text)
    assert found == Settings()
    assert [complaint in p for p in problems] == [True]
    assert "\n" not in problems[0]


def test_a_file_that_is_no_text_is_one_problem(tmp_path):
    """Bytes that are not UTF-8."""
    (tmp_path / FILE_NAME).write_bytes(b"zone: \xff\xfe")
    found, problems = resolve(env={}, cwd=tmp_path)
    assert found == Settings()
    assert len(problems) == 1
    assert f"{FILE_NAME}: cannot be read: " in problems[0]


def test_a_named_file_that_is_missing_is_a_problem(tmp_path):
    """Who names a file wants it read."""
    path = tmp_path / "missing.yaml"
    found, problems = resolve(env={f"{ENV_PREFIX}CONFIG": str(path)}, cwd=tmp_path)
    assert found == Settings()
    assert problems == [f"file {path}: cannot be read: [Errno 2] No such file or directory: '{path}'"]


def test_a_home_that_nobody_has_is_a_problem(tmp_path):
    """`~name` of an unknown user stops nothing."""
    _, problems = resolve(env={f"{ENV_PREFIX}CONFIG": "~no-such-user-here/x.yaml"}, cwd=tmp_path)
    assert len(problems) == 1
    assert f"file {FILE_NAME}: cannot be read: " in problems[0]


def test_the_file_of_the_working_folder_is_found_by_itself(tmp_path):
    """`./mlflow-carbon.yaml`, unless a variable names another."""
    (tmp_path / FILE_NAME).write_text("zone: DE")
    other = tmp_path / "other.yaml"
    other.write_text("zone: FR")
    assert resolve(env={}, cwd=tmp_path)[0].zone == "DE"
    assert resolve(env={f"{ENV_PREFIX}CONFIG": str(other)}, cwd=tmp_path)[0].zone == "FR"


def test_a_folder_that_cannot_be_looked_into_stops_nothing(tmp_path):
    """A working folder that the system refuses to look into is one problem, not an exception."""
    found, problems = resolve(env={}, cwd=tmp_path / ("x" * 300))
    assert found == Settings()
    assert len(problems) == 1
    assert "cannot be read: [Errno" in problems[0]


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("True", True), ("0", False), ("", False), ("no", False)])  # fmt: skip
def test_switches(value, is_on):
    """The kill switch and the switch of autolog; both are off unless given."""
    assert is_disabled({f"{ENV_PREFIX}DISABLE": value}) is is_on
    assert wants_autolog({f"{ENV_PREFIX}AUTOLOG": value}) is is_on
    assert not is_disabled({})
    assert not wants_autolog({})


def test_home_is_the_variable_or_the_users_state_folder(tmp_path):
    """With `~` for the user's own folder."""
    assert home({f"{ENV_PREFIX}HOME": str(tmp_path)}) == tmp_path
    assert home({f"{ENV_PREFIX}HOME": "~/carbon"}) == Path.home() / "carbon"
    assert home({}).name == "mlflow-carbon"

"""Meters of the whole machine: hwmon, board controller, wall meter. Never run on hardware."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from mlflow_carbon.core.series import Component, Kind, Quality
from mlflow_carbon.errors import SettingsError
from mlflow_carbon.sensors import hwmon, ipmi, wall_meter
from mlflow_carbon.sensors.contract import Site
from mlflow_carbon.settings import Settings, resolve
from tests.sensor_fakes import DCMI, Polls, VirtualClock, add_hwmon, site

S = 10**9


def _wall(place):
    return Site(settings=Settings(wall_meter=str(place)), root=None, env={})  # type: ignore[arg-type]


def test_the_power_meter_of_the_firmware_is_one_of_the_node(tmp_path):
    """231 500 000 uW are 231 500 mW, of the whole machine; other devices under hwmon are left alone."""
    add_hwmon(tmp_path, 0, "power_meter", {"power1_average": 231_500_000})
    add_hwmon(tmp_path, 1, "amdgpu", {"power1_average": 90_000_000})
    add_hwmon(tmp_path, 2, "coretemp", {"temp1_input": 50_000})
    (sensor,) = hwmon.probe(site(tmp_path), start=Polls().start).sensors
    (channel,) = sensor.channels
    assert (channel.id, channel.component, channel.kind) == ("hwmon:acpi-0", Component.NODE, Kind.MEAN)
    assert [s.power_mw for s in sensor.read(VirtualClock())] == [231_500]


def test_the_sockets_of_a_grace_cpu_are_a_cpu_and_its_parts_are_not_read(tmp_path):
    """NVIDIA Grace shows sockets and parts as power meters: the socket counts, once."""
    for number, info in enumerate(("Module Power Socket 0", "Grace Power Socket 0", "CPU Power Socket 0")):
        add_hwmon(tmp_path, number, "power_meter", {"power1_average": 80_000_000, "power1_oem_info": info})
    (sensor,) = hwmon.probe(site(tmp_path), start=Polls().start).sensors
    assert [(c.id, c.component) for c in sensor.channels] == [("hwmon:grace-0", Component.CPU)]


def test_of_a_jetson_only_the_rail_of_the_whole_is_read(tmp_path):
    """5000 mV x 2100 mA are 10 500 mW; the rails of parts are left out."""
    rails = {"in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 2100, "in2_label": "VDD_CPU_CV"}
    add_hwmon(tmp_path, 0, "ina3221", {**rails, "in2_input": 5000, "curr2_input": 700})
    (sensor,) = hwmon.probe(site(tmp_path), start=Polls().start).sensors
    assert [s.power_mw for s in sensor.read(VirtualClock())] == [10_500]


def test_a_meter_that_cannot_be_opened_is_a_reason(tmp_path):
    """A file that is none has a reason and what to look at; one that turns bad later is an error."""
    folder = add_hwmon(tmp_path, 0, "power_meter", {})
    (folder / "power1_average").mkdir()
    (absence,) = hwmon.probe(site(tmp_path)).absences
    assert absence.reason == "IsADirectoryError: Is a directory"
    assert "power1_average" in absence.remedy
    (folder / "power1_average").rmdir()
    (folder / "power1_average").write_text("-5\n")
    (sensor,) = hwmon.probe(site(tmp_path), start=Polls().start).sensors
    (failed,) = sensor.read(VirtualClock())
    assert (failed.power_mw, failed.error) == (
        None,
        "ValueError: expected a power of at least 1 mW, got -5 uW",
    )


@pytest.mark.parametrize("shown", ["0", "999"])
def test_a_meter_of_the_whole_that_says_nothing_is_drawn_is_not_believed(tmp_path, shown):
    """The machine runs, so that 0 W of it is a failed read."""
    add_hwmon(tmp_path, 0, "power_meter", {"power1_average": shown})
    (sensor,) = hwmon.probe(site(tmp_path), start=Polls().start).sensors
    (failed,) = sensor.read(VirtualClock())
    assert failed.error == f"ValueError: expected a power of at least 1 mW, got {shown} uW"


def test_the_board_controller_is_asked_through_ipmitool(tmp_path):
    """Of what the command prints the instantaneous reading counts: 214 W."""
    assert ipmi.probe(site(tmp_path)).absences == ()  # most machines have none: nothing to say
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ipmi0").touch()
    (absence,) = ipmi.probe(site(tmp_path, env={"PATH": str(tmp_path)})).absences
    assert absence.remedy == "sudo apt-get install ipmitool"
    (sensor,) = ipmi.probe(site(tmp_path), run=lambda: DCMI, start=Polls().start).sensors
    assert sensor.channels[0].component is Component.NODE
    assert [s.power_mw for s in sensor.read(VirtualClock())] == [214_000]


@pytest.mark.parametrize("text", ["", "Instantaneous power reading: 0 Watts", "DCMI request failed"])
def test_a_controller_without_a_reading_is_an_error(text):
    """No number, or the 0 W of a controller without a sensor, is not a machine that uses nothing."""
    with pytest.raises(ValueError, match="found none"):
        ipmi.parse(text)
    assert ipmi.parse("Instantaneous power reading              : 214      Watts") == 214_000


class WallClock(VirtualClock):
    """A clock whose UTC is 1 700 000 000 s ahead of its monotonic time."""

    def wall_ns(self) -> int:
        return self.now_ns + 1_700_000_000 * S


def _csv(tmp_path, text):
    path = tmp_path / "meter.csv"
    path.write_text(text)
    polls, clock = Polls(), WallClock(step_ns=0)
    found = wall_meter.probe(_wall(path), start=polls.start)
    return found, path, polls, clock


def test_rows_of_a_file_count_at_their_own_time(tmp_path):
    """Of the rows that were there only the last counts; new ones at their time; half a row waits for its end."""
    found, path, polls, clock = _csv(tmp_path, "time,power_w\n1700000000,90\n1700000001,100.5\n")
    (sensor,) = found.sensors
    (channel,) = sensor.channels
    assert (channel.component, channel.kind, channel.quality) == (Component.NODE, Kind.MEAN, Quality.L4)
    clock.now_ns = 2 * S
    assert [(s.t_mono_ns, s.power_mw) for s in sensor.read(clock)] == [(1 * S, 100_500)]
    with path.open("a") as file:
        file.write("2023-11-14T22:13:22Z,110\n2023-11-14T22:13:23,12")
    polls.again()
    assert [(s.t_mono_ns, s.power_mw) for s in sensor.read(clock)] == [(2 * S, 110_000)]
    with path.open("a") as file:
        file.write("0\n")
    clock.now_ns = 3 * S
    polls.again()
    assert [(s.t_mono_ns, s.power_mw) for s in sensor.read(clock)] == [(3 * S, 120_000)]


def test_a_column_of_energy_is_a_counter(tmp_path):
    """0.5 Wh are 1 800 000 000 uJ."""
    found, _, _, clock = _csv(tmp_path, "Time, Energy_Wh\n1700000000,0.5\n")
    assert found.sensors[0].channels[0].kind is Kind.COUNTER
    assert [s.energy_uj for s in found.sensors[0].read(clock)] == [1_800_000_000]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1700000000,nan", "expected power_w to be a number of at least 0, got 'nan'"),
        ("1700000000,-3", "got '-3'"),
        ("1700000000", "got 'None'"),
        ("yesterday,5", "ValueError"),
        ("inf,5", "ValueError"),
        ("1700000060,5", "60 s ahead: set the clocks"),
    ],
)
def test_bad_rows_are_errors(tmp_path, row, words):
    """Not a number, negative, missing, no time or one that is yet to come: an error, never a value."""
    found, _, _, clock = _csv(tmp_path, f"time,power_w\n{row}\n")
    (failed,) = found.sensors[0].read(clock)
    assert failed.power_mw is None
    assert words in (failed.error or "")


def test_a_file_that_became_shorter_is_an_error(tmp_path):
    """A file that was written anew cannot be followed, and says so."""
    found, path, _, clock = _csv(tmp_path, "time,power_w\n")
    path.write_text("x\n")
    assert "became shorter" in (found.sensors[0].read(clock)[0].error or "")


@pytest.mark.parametrize(
    ("text", "words"), [(None, "No such file"), ("", "got ''"), ("watts\n5\n", "expected a header with time")]
)
def test_a_file_that_is_no_meter_is_a_reason(tmp_path, text, words):
    """A file that is missing or has another header is explained, without its path."""
    path = tmp_path / "meter.csv"
    if text is not None:
        path.write_text(text)
    (absence,) = wall_meter.probe(_wall(path)).absences
    assert words in absence.reason
    assert str(tmp_path) not in absence.reason + absence.remedy


@pytest.mark.parametrize(
    ("place", "body", "power_mw"),
    [
        ("http://meter/", b'{"power_w": 231.5}', 231_500),
        ("http://meter/rpc/Switch.GetStatus?id=0#apower", b'{"id": 0, "apower": 12}', 12_000),
        (
            "http://meter/cm?cmnd=Status%208#StatusSNS.ENERGY.Power",
            b'{"StatusSNS": {"ENERGY": {"Power": 7}}}',
            7_000,
        ),
        ("http://meter/", b'{"watts": 3}', None),
        ("http://meter/", b"[]", None),
        ("http://meter/", b"<html>", None),
    ],
)
def test_an_address_tells_the_present_power(place, body, power_mw):
    """The field `power_w`, or the one of the fragment; an answer without it is an error. No address is told."""
    asked = []

    def get(address):
        asked.append(address)
        return body

    (sensor,) = wall_meter.probe(_wall(place), get=get, start=Polls().start).sensors
    (sample,) = sensor.read(VirtualClock())
    assert asked == [place.partition("#")[0]]
    assert sample.power_mw == power_mw
    assert (sample.error is None) == (power_mw is not None)
    assert "meter/" not in f"{sensor.channels[0]} {sample.error}"


class _Page(BaseHTTPRequestHandler):
    body: ClassVar[bytes] = b'{"power_w": 42}'

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


def test_a_real_address_is_fetched():
    """A server on the loopback answers with 42 W."""
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        (sensor,) = wall_meter.probe(
            _wall(f"http://127.0.0.1:{server.server_port}/"), start=Polls().start
        ).sensors
        assert [s.power_mw for s in sensor.read(VirtualClock())] == [42_000]
        thread.join(timeout=10)


def test_the_setting_takes_a_file_or_an_http_address():
    """Any path and http(s) are taken; other schemes are refused at the call."""
    assert resolve({"wall_meter": "https://meter/x"}, env={})[0].wall_meter == "https://meter/x"
    assert resolve({}, env={"MLFLOW_CARBON_WALL_METER": "m.csv"})[0].wall_meter == "m.csv"
    with pytest.raises(SettingsError, match=r"expected a CSV file or an http\(s\) address"):
        resolve({"wall_meter": "ftp://meter/x"}, env={})

"""The judge of sensors finds what is wrong, and the page that teaches it works."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_carbon.core.series import Basis, Kind, Sample
from mlflow_carbon.testing import (
    FakeSensor,
    Meter,
    Plan,
    Shown,
    VirtualClock,
    breaches,
    check_sensor,
    constant,
    drive,
    fake_channel,
    training,
)

PAGE = Path(__file__).parents[2] / "docs/how-to/test-a-sensor.md"


def fake(clock, *, channel=None, meter=None):
    """A sensor that does everything right."""
    return FakeSensor({channel or fake_channel(): meter or Meter(truth=constant(100.0))}, clock=clock)


@pytest.mark.parametrize("kind", Kind)
def test_a_good_sensor_passes(kind):
    """A sensor that keeps its promises passes and is closed."""
    clock = VirtualClock(latency_ns=2000)
    sensor = fake(clock, channel=fake_channel(kind=kind))
    outcome = check_sensor(sensor, constant(100.0), clock=clock)
    assert outcome.total.true_j == pytest.approx(12_000, rel=1e-4)
    assert sensor.is_closed


class Twisted:
    """A good sensor with one thing changed."""

    def __init__(self, clock, **changes):
        self._sensor = fake(clock)
        self._changes = changes

    @property
    def channels(self):
        return self._changes.get("channels", self._sensor.channels)

    def read(self, clock):
        return self._changes.get("read", lambda samples: samples)(self._sensor.read(clock))

    def close(self):
        self._changes.get("close", lambda: None)()


def fail(*_samples):
    """What no sensor may do."""
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"channels": ()}, "no channels"),
        ({"channels": (fake_channel(), fake_channel())}, "ids repeat"),
        ({"channels": (replace(fake_channel(), sensor="other"),)}, "expected an id that begins with 'other'"),
        ({"channels": (replace(fake_channel(), source=""),)}, "expected a device and a source"),
        ({"channels": (replace(fake_channel(), basis=Basis.MODELLED),)}, "belong together"),
        ({"channels": (replace(fake_channel(), low_ratio=1.0, high_ratio=1.0),)}, "no meter is exact"),
        ({"channels": (replace(fake_channel(), kind=Kind.GAUGE),)}, "has {'power_mw'}, got {'energy_uj'}"),
        ({"read": fail}, "read raised RuntimeError: boom"),
        ({"read": lambda samples: ()}, "got 0.000 J"),
        ({"read": lambda samples: (replace(samples[0], channel="fake:9"),)}, "got one of 'fake:9'"),
        ({"read": lambda samples: samples * 2}, "not in order of time"),
        ({"read": lambda samples: (replace(samples[0], t_mono_ns=10**15),)}, "a time after the read"),
        ({"read": lambda samples: (Sample(channel="fake:0", t_mono_ns=samples[0].t_mono_ns),)}, "no value"),
        (
            {"read": lambda samples: (replace(samples[0], energy_uj=None, error="gone"),)},
            "the read failed: gone",
        ),
        ({"read": lambda samples: (replace(samples[0], energy_uj=samples[0].energy_uj // 2),)}, "(-50.000%)"),
        (
            {"read": lambda samples: (replace(samples[0], energy_uj=samples[0].energy_uj // 2),)},
            "does not hold",
        ),
        ({"close": fail}, "close, called twice, raised RuntimeError: boom"),
    ],
)
def test_a_broken_promise_is_named(changes, finding):
    """Whatever is wrong with a sensor is said in words."""
    clock = VirtualClock()
    with pytest.raises(AssertionError) as raised:
        check_sensor(Twisted(clock, **changes), constant(100.0), clock=clock)
    assert finding in str(raised.value)


def test_a_sensor_that_raises_has_failed_to_read():
    """A drive goes on over a sensor that raises, as the sampler does, and counts it."""
    clock = VirtualClock()
    outcome = drive(Twisted(clock, read=fail), constant(100.0), clock=clock, plan=Plan(duration_s=10.0))
    assert outcome.total.errors == 12
    assert outcome.total.measured_j == 0
    assert outcome.findings


def test_channels_must_not_change():
    """A sensor whose channels change while it is read breaks a promise."""
    clock = VirtualClock()
    sensor = fake(clock)

    class Shifting(Twisted):
        def read(self, clock):
            self._changes["channels"] = (fake_channel("1"),)
            return sensor.read(clock)

    assert "channels changed" in breaches(Shifting(clock), clock)[-1]


def test_readings_fall_on_their_beats():
    """Without lateness readings are a period apart, and together they last as long as they should."""
    assert list(Plan(duration_s=1.0, period_s=0.3).pauses_s()) == pytest.approx([0.3, 0.3, 0.3, 0.1])
    for plan in (
        Plan(late_ratio=0.9, seed=3),
        Plan(dither_ratio=0.5),
        Plan(late_ratio=0.3, dither_ratio=0.5),
    ):
        pauses_s = list(plan.pauses_s())
        assert sum(pauses_s) == pytest.approx(plan.duration_s)
        assert min(pauses_s) >= 0


def test_what_a_meter_shows_is_a_truth_of_its_own():
    """A staircase of a refresh each second: 100 W until the meter sees the 300 W, one second late."""
    from mlflow_carbon.testing import step

    shown = Shown(meter=Meter(truth=step(before_w=100.0, after_w=300.0, at_s=1.5), refresh_s=1.0))
    assert shown.energy_j(0.0, 2.0) == pytest.approx(200.0)
    assert shown.energy_j(1.5, 3.25) == pytest.approx(50.0 + 300.0 + 75.0)
    with pytest.raises(ValueError, match="refresh time above 0"):
        Shown(meter=Meter(truth=training()))


def test_the_page_works(capsys):
    """The worked example of the page runs as it stands there, and its sensor passes."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    exec("\n".join(blocks), {})  # noqa: S102 - the text of our own page
    assert re.search(r"[+-]0\.\d\d% of \d+ J, findings: \(\)", capsys.readouterr().out)


def test_every_public_name_is_on_the_page():
    """What the package offers is in the table of the page."""
    import mlflow_carbon.testing as public

    text = PAGE.read_text(encoding="utf-8")
    hidden = {"FaultKind", "MovableClock", "Outcome", "Piece", "Reckoning", "Sine", "Truth"}
    assert [n for n in public.__all__ if f"`{n}`" not in text and n not in hidden] == []

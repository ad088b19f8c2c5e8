"""Slow sensors, polled elsewhere: here by hand, and once in a real thread."""

from __future__ import annotations

import threading

import pytest

from mlflow_carbon.core.energy import Ledger
from mlflow_carbon.core.series import Case, Component, Kind
from mlflow_carbon.sensors.background import Background, Pace, Reading, in_thread
from tests.fakes import channel
from tests.sensor_fakes import Polls, VirtualClock

S = 10**9
NODE = channel(component=Component.NODE, kind=Kind.MEAN)


class Meter:
    """Answers with the power it is told, at the time of the question, or fails."""

    def __init__(self, power_mw: int | Exception = 100_000) -> None:
        self.power_mw = power_mw

    def ask(self, clock):
        if isinstance(self.power_mw, Exception):
            raise self.power_mw
        return [Reading(0, clock.monotonic_ns(), {"power_mw": self.power_mw})]


def _sensor(meter, *, tries=0):
    polls, clock = Polls(), VirtualClock(step_ns=0)
    pace = Pace(every_s=1.0, timeout_s=2.0, tries=tries)
    return Background((NODE,), meter.ask, pace=pace, start=polls.start), polls, clock


def test_each_reading_is_handed_out_once_with_its_own_time():
    """What came in at 1 s and 2 s is handed out at 2.5 s, and not again at 2.6 s."""
    sensor, polls, clock = _sensor(Meter())
    assert [s.t_mono_ns for s in sensor.read(clock)] == [0]
    for now_ns in (1 * S, 2 * S):
        clock.now_ns = now_ns
        polls.again()
    clock.now_ns = 2 * S + S // 2
    assert [s.t_mono_ns for s in sensor.read(clock)] == [1 * S, 2 * S]
    assert sensor.read(clock) == ()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(111, "Connection refused", "/home/ann/meter.csv"),
            "ConnectionRefusedError: Connection refused",
        ),
        (ValueError("no number"), "ValueError: no number"),
        (RecursionError("too deep"), "RecursionError: too deep"),
    ],
)
def test_a_failed_poll_is_an_error_and_never_a_value(error, told):
    """Whatever the source raises becomes the text of a failed reading, without the path that failed."""
    sensor, _, clock = _sensor(Meter(error))
    (failed,) = sensor.read(clock)
    assert (failed.power_mw, failed.error) == (None, told)


def test_a_negative_reading_is_an_error():
    """A meter that tells a power below 0 fails."""
    sensor, _, clock = _sensor(Meter(-5))
    (failed,) = sensor.read(clock)
    assert failed.power_mw is None
    assert "at least 0, got -5" in (failed.error or "")


def test_silence_becomes_an_error():
    """A poll that hangs is nothing for 5 s, three intervals and the time for an answer, and an error after that."""
    sensor, _, clock = _sensor(Meter())
    sensor.read(clock)
    clock.now_ns = 5 * S
    assert sensor.read(clock) == ()
    clock.now_ns = 6 * S
    (failed,) = sensor.read(clock)
    assert failed.error == "TimeoutError: no answer for 6 s"


def test_a_mean_does_not_reach_over_a_silence():
    """100 W at 0 s, silence, 300 W at 60 s: one interval of 300 J, and a gap of 59 s that has no energy."""
    meter = Meter()
    sensor, polls, clock = _sensor(meter)
    ledger = Ledger([NODE], start_ns=0, wall_offset_ns=0)
    samples = list(sensor.read(clock))
    clock.now_ns, meter.power_mw = 60 * S, 300_000
    polls.again()
    samples += sensor.read(clock)
    for sample in samples:
        ledger.add(sample)
    series = ledger.series(60 * S)
    assert sum(cell.energy_uj for cell in series.cells) == 300_000_000
    assert series.cases == {"fake:cpu": {Case.GAP: 1, Case.NORMAL: 1}}


def test_a_source_that_never_answers_is_given_up():
    """After three failures a board controller that is none is asked no more and complains no more."""
    sensor, polls, clock = _sensor(Meter(OSError(5, "Input/output error")), tries=3)
    told = list(sensor.read(clock))
    for second in range(1, 60):
        clock.now_ns = second * S
        polls.again()
        told += sensor.read(clock)
    assert len(told) == 3


def test_closing_stops_the_polls():
    """Closed before and after the first read, twice, it stops what it has started."""
    sensor, polls, clock = _sensor(Meter())
    sensor.close()
    assert polls.stopped == 0
    sensor.read(clock)
    sensor.close()
    sensor.close()
    assert polls.stopped == 2


def test_polls_run_in_a_thread_of_their_own_until_stopped():
    """The first poll comes at once; no poll comes after the stop, and the caller never waits."""
    polled, threads = threading.Semaphore(0), []

    def poll():
        threads.append(threading.current_thread())
        polled.release()

    stop = in_thread(poll, 0.001)
    assert polled.acquire(timeout=10)
    assert polled.acquire(timeout=10)
    stop()
    threads[0].join(timeout=10)
    assert not threads[0].is_alive()
    assert threads[0].daemon
    assert threads[0] is not threading.current_thread()

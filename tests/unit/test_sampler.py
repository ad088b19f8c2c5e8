"""The sampler: steady beats, ticks on demand, and nobody harmed by anybody."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.core.series import Kind, Sample
from mlflow_carbon.sampler import Sampler, SystemClock, _needs_dither
from mlflow_carbon.sensors import Discovery
from tests.fakes import ConstantPower, VirtualClock, channel

S = 10**9
WAIT_S = 20  # for what comes in milliseconds, on a machine that may hang for seconds


class Ears:
    """A listener that keeps its ticks and can be waited for."""

    def __init__(self, *, fails: bool = False) -> None:
        self.ticks: list[Any] = []
        self.fails = fails
        self._heard = threading.Condition()

    def on_tick(self, tick, discovery):
        with self._heard:
            self.ticks.append(tick)
            self._heard.notify_all()
        if self.fails:
            raise RuntimeError("this listener is broken")

    def wait_for(self, count):
        """Wait until this many ticks are in."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.ticks) >= count, WAIT_S)


@dataclass
class Answer:
    """A sensor that answers with whatever it is given."""

    answer: Any
    channels: tuple[Any, ...] = field(default_factory=lambda: (channel(id="odd:a"), channel(id="odd:b")))

    def read(self, clock):
        return self.answer

    def close(self):
        pass


def _sampler(*sensors, period_s=0.02, clock=None, looks=None):
    def discover():
        if looks is not None:
            looks.append(threading.current_thread().name)
        return Discovery(sensors=sensors, absences=(), channels=tuple(c for s in sensors for c in s.channels))

    return Sampler(discover=discover, period_s=period_s, clock=clock or SystemClock())


def _waiting(period_s=1.0):
    """A sampler whose beats are asked for by hand, and its clock."""
    clock = VirtualClock()
    sampler = _sampler(period_s=period_s, clock=clock)
    sampler._listeners.append(Ears())
    return sampler, clock


def _gauge_beats(period_s, count, **channels):
    """When a sampler without a pause reads, in periods since its first beat."""
    clock, moments = VirtualClock(), []
    sensor = Answer((), channels=(channel(**channels),))
    discovery = Discovery(sensors=(sensor,), absences=(), channels=sensor.channels)
    sampler = Sampler(discover=lambda: discovery, period_s=period_s, clock=clock, draw=Random(7).random)
    sampler._beat.is_dithered = _needs_dither(discovery, sampler._beat.period_ns)
    sampler._listeners.append(Ears())
    sampler._changed.wait = lambda timeout=None: clock.advance(timeout)  # type: ignore[method-assign, assignment, return-value, arg-type]
    start = deadline = clock.now_ns
    for _ in range(count):
        deadline = sampler._wait(deadline)
        moments.append((clock.now_ns - start) / sampler._beat.period_ns)
    return moments


def test_rare_readings_of_power_are_spread_over_their_periods():
    """Each of a thousand periods has one reading, anywhere in it; the mean place is the middle, within 0.05."""
    moments = _gauge_beats(1.0, 1000, kind=Kind.GAUGE)
    places = [moment - number for number, moment in enumerate(moments)]
    assert all(-0.5 <= place <= 0.5 for place in places[1:])
    assert abs(sum(places) / len(places)) < 0.05
    assert min(places) < -0.45
    assert max(places) > 0.45


@pytest.mark.parametrize(("period_s", "kind"), [(1.0, Kind.COUNTER), (1.0, Kind.MEAN), (0.1, Kind.GAUGE)])
def test_counters_means_and_quick_readings_keep_the_beat(period_s, kind):
    """They see what happens between their readings, or read often enough."""
    assert _gauge_beats(period_s, 5, kind=kind) == pytest.approx([0, 1, 2, 3, 4])


def test_a_late_beat_does_not_delay_the_next():
    """Beats at 0, 1, 2 s: one that comes 0.3 s late is followed by one 0.7 s later."""
    sampler, clock = _waiting()
    start = clock.now_ns
    deadline = sampler._wait(start)
    assert deadline == start + S
    clock.advance(1.3)
    assert sampler._wait(deadline) == start + 2 * S


def test_beats_that_were_missed_are_left_out():
    """After a stop of 3.5 s there is one tick, and the next beat is the one after 3.5 s: that of 4 s."""
    sampler, clock = _waiting()
    start = clock.now_ns
    clock.advance(3.5)
    assert sampler._wait(start) == start + 4 * S


def test_a_poke_moves_no_beat():
    """A tick on demand at 0.4 s leaves the beat of 1 s where it was."""
    sampler, clock = _waiting()
    start = clock.now_ns
    deadline = sampler._wait(start)
    clock.advance(0.4)
    sampler.poke()
    assert sampler._wait(deadline) == deadline
    clock.advance(0.6)
    assert sampler._wait(deadline) == start + 2 * S


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=30), st.sampled_from([0.05, 0.1, 1, 7.5]))
def test_beats_never_leave_their_grid(steps, period_s):
    """However late the thread wakes and however often it is poked, deadlines are whole periods from the start."""
    sampler, clock = _waiting(period_s)
    start = deadline = clock.now_ns
    for seconds, poked in steps:
        clock.advance(seconds)
        if poked:
            sampler.poke()
        elif clock.now_ns < deadline:
            clock.now_ns = deadline
        deadline = sampler._wait(deadline)
        assert (deadline - start) % round(period_s * S) == 0
        assert 0 < deadline - clock.now_ns <= round(period_s * S)


def test_ticks_come_by_themselves_and_count_up():
    """At 50 Hz a listener hears several, numbered without a jump, in order of time, with every channel."""
    ears, sampler = Ears(), _sampler(ConstantPower())
    sampler.subscribe(ears)
    ears.wait_for(5)
    sampler.unsubscribe(ears)
    ticks = ears.ticks[:5]
    assert [t.seq for t in ticks] == list(range(5))
    times = [t.t_mono_ns for t in ticks]
    assert times == sorted(set(times))
    assert [s.channel for t in ticks for s in t.samples] == ["fake:cpu"] * 5
    assert all(s.t_mono_ns >= t.t_mono_ns for t in ticks for s in t.samples)
    assert sampler.cpu_ns > 0


def test_a_poke_gives_a_tick_at_once():
    """With a beat of a minute, the first tick comes with the subscription and each further one when asked for."""
    ears, sampler = Ears(), _sampler(ConstantPower(), period_s=60)
    sampler.subscribe(ears)
    ears.wait_for(1)
    for count in (2, 3):
        asked_ns = SystemClock().monotonic_ns()
        sampler.poke()
        assert sampler.wait_for_tick(asked_ns, WAIT_S)
        assert len(ears.ticks) == count
        assert ears.ticks[-1].t_mono_ns >= asked_ns


def test_a_poke_spares_a_reading_that_is_still_fresh():
    """Within the time that is asked for the last tick will do, after it a new one is made; none yet is never fresh."""
    sampler, clock = _waiting()
    sampler.poke(unless_within_s=5)
    assert sampler._poked
    sampler._poked = False
    sampler._last = sampler._tick(())
    for seconds, poked in ((0.4, False), (0.2, True)):
        clock.advance(seconds)
        sampler.poke(unless_within_s=0.5)
        assert sampler._poked is poked


def test_waiting_for_a_tick_gives_up():
    """Nobody listens, so no tick comes."""
    sampler = _sampler(ConstantPower())
    sampler.warm_up()
    assert not sampler.wait_for_tick(0, 0.05)


def test_without_listeners_it_parks():
    """Beats are long overdue, and still nothing wakes until somebody listens."""
    sampler, clock = _waiting()
    listener = sampler._listeners.pop()
    start = clock.now_ns
    clock.advance(100)
    deadlines: list[int] = []
    thread = threading.Thread(target=lambda: deadlines.append(sampler._wait(start)), daemon=True)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    sampler._thread = thread  # so that subscribing does not start a second one
    sampler.subscribe(listener)
    thread.join(WAIT_S)
    assert deadlines == [clock.now_ns + S]  # a new grid from here, not the old one of 100 s ago


def test_a_listener_that_left_hears_nothing_more():
    """Leaving twice does no harm."""
    first, second, sampler = Ears(), Ears(), _sampler(ConstantPower())
    sampler.subscribe(first)
    sampler.subscribe(second)
    first.wait_for(1)
    sampler.unsubscribe(first)
    sampler.unsubscribe(first)
    second.wait_for(len(second.ticks) + 2)  # a tick that was under way may still have come
    heard = len(first.ticks)
    second.wait_for(len(second.ticks) + 3)
    assert len(first.ticks) == heard


def test_sensors_are_looked_for_once_and_in_the_background():
    """Warming up twice and two listeners make one thread and one look."""
    looks: list[str] = []
    ears, sampler = Ears(), _sampler(ConstantPower(), looks=looks)
    sampler.warm_up()
    sampler.warm_up()
    for _ in range(2):
        sampler.subscribe(ears)
    ears.wait_for(4)
    assert looks == ["mlflow-carbon-sampler"]
    assert sampler.discovery is not None
    assert [c.id for c in sampler.discovery.channels] == ["fake:cpu"]


def test_readings_taken_while_sensors_were_found_are_told_once():
    """They stand before those of the first tick, unless they are too old to say anything about it."""
    now_ns = SystemClock().monotonic_ns()
    found = Discovery(
        sensors=(ConstantPower(),),
        absences=(),
        channels=ConstantPower().channels,
        first=(
            Sample(channel="old", t_mono_ns=now_ns - 60 * S),
            Sample(channel="fresh", t_mono_ns=now_ns - S),
        ),
    )
    ears, sampler = Ears(), Sampler(discover=lambda: found, period_s=0.02, clock=SystemClock())
    sampler.subscribe(ears)
    ears.wait_for(3)
    told = [[sample.channel for sample in tick.samples] for tick in ears.ticks[:3]]
    assert told == [["fresh", "fake:cpu"], ["fake:cpu"], ["fake:cpu"]]


def test_a_sensor_that_raises_is_a_failed_read_of_each_of_its_channels():
    """The one beside it is read as if nothing were."""
    broken = ConstantPower(error=OSError("x" * 500), channels=(channel(id="a"), channel(id="b")))
    tick = _sampler()._tick((broken, ConstantPower()))
    assert [(s.channel, s.energy_uj is None) for s in tick.samples] == [
        ("a", True),
        ("b", True),
        ("fake:cpu", False),
    ]
    errors = [s.error for s in tick.samples]
    assert errors == [("OSError: " + "x" * 500)[:200]] * 2 + [None]


@pytest.mark.parametrize("answer", [None, 5])
def test_a_sensor_that_answers_nonsense_is_a_failed_read(answer):
    """A sensor of another package that returns no samples does not end the thread."""
    tick = _sampler()._tick((Answer(answer), ConstantPower()))
    assert [(s.channel, s.error is None) for s in tick.samples] == [
        ("odd:a", False),
        ("odd:b", False),
        ("fake:cpu", True),
    ]


def test_a_sensor_may_answer_with_any_sequence():
    """A list is as good as a tuple."""
    sample = Sample(channel="odd:a", t_mono_ns=1, power_mw=5)
    assert _sampler()._tick((Answer([sample]),)).samples == (sample,)


def test_a_listener_that_raises_is_left_out_and_the_others_hear_on(caplog):
    """It is logged once, with its traceback."""
    broken, ears, sampler = Ears(fails=True), Ears(), _sampler(ConstantPower())
    with caplog.at_level(logging.WARNING):
        sampler.subscribe(broken)
        sampler.subscribe(ears)
        ears.wait_for(3)
    assert len(broken.ticks) == 1
    assert [r.message for r in caplog.records] == ["a listener failed and gets no more readings"]
    assert caplog.records[0].exc_info is not None


class Closable(ConstantPower):
    """A sensor that tells when it is closed, and fails at it."""

    def __init__(self):
        super().__init__()
        self.closed = threading.Event()

    def close(self):
        self.closed.set()
        raise OSError("closed twice")


def test_a_retired_sampler_lets_sensors_and_thread_go_and_starts_again_for_a_listener():
    """The next subscription looks for sensors anew; numbers of ticks go on."""
    looks: list[str] = []
    sensor, first, second = Closable(), Ears(), Ears()
    sampler = _sampler(sensor, looks=looks)
    sampler.retire()  # nothing to let go yet
    sampler.subscribe(first)
    first.wait_for(2)
    sampler.unsubscribe(first)
    thread = sampler._thread
    assert thread is not None
    sampler.retire()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert sensor.closed.is_set()
    sampler.subscribe(second)
    second.wait_for(2)
    assert len(looks) == 2
    assert second.ticks[0].seq > first.ticks[-1].seq


def test_a_listener_in_time_keeps_a_sampler_from_retiring():
    """Whoever subscribes before the thread has ended goes on with it."""
    sampler, _ = _waiting()
    sampler._thread = threading.current_thread()
    sampler.retire()
    sampler.subscribe(Ears())
    assert not sampler._is_over()
    assert sampler._thread is threading.current_thread()

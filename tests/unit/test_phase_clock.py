"""Own time per phase and thread, with every step of the clock under control."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.session.phase_clock import PhaseClock, wait_for_device


class Clock:
    """A clock that moves when told."""

    def __init__(self):
        self.now = 1000

    def __call__(self):
        return self.now

    def later(self, ns):
        self.now += ns
        return self.now


def _clock():
    clock = Clock()
    return PhaseClock(clock), clock


def test_a_phase_takes_the_time_between_its_marks():
    """7 ns inside, 5 ns outside."""
    phases, clock = _clock()
    phases.enter("forward")
    clock.later(7)
    phases.leave()
    assert phases.since_last(clock.later(5)) == {"forward": 7}


def test_a_phase_inside_another_pauses_it():
    """An epoch of 2 + 10 + 3 ns with an evaluation of 10 ns: own times 5 and 10."""
    phases, clock = _clock()
    phases.enter("epoch")
    clock.later(2)
    phases.enter("evaluate")
    clock.later(10)
    phases.leave()
    clock.later(3)
    phases.leave()
    assert phases.since_last(clock.later(50)) == {"epoch": 5, "evaluate": 10}


def test_a_phase_may_hold_one_of_its_own_name():
    """A recursive function is one phase, counted once."""
    phases, clock = _clock()
    for _ in range(2):
        phases.enter("load")
        clock.later(4)
    for _ in range(2):
        phases.leave()
        clock.later(1)
    assert phases.since_last(clock.now) == {"load": 9}
    assert phases.entries() == {"load": 2}


def test_open_phases_are_included_up_to_now():
    """A reading in mid-phase takes what is there, and the next one the rest."""
    phases, clock = _clock()
    phases.enter("epoch")
    clock.later(4)
    phases.enter("forward")
    clock.later(3)
    assert phases.since_last(clock.now) == {"epoch": 4, "forward": 3}
    clock.later(2)
    assert phases.since_last(clock.now) == {"forward": 2}
    phases.leave()
    clock.later(6)
    assert phases.since_last(clock.now) == {"epoch": 6}
    assert phases.since_last(clock.now) == {}


def test_a_reading_of_a_moment_before_the_mark_takes_no_negative_time():
    """The sampler's tick may be a little older than the mark; the time comes with the next reading."""
    phases, clock = _clock()
    clock.later(10)
    phases.enter("forward")
    assert phases.since_last(clock.now - 5) == {}
    assert phases.since_last(clock.later(1)) == {"forward": 1}


def test_leaving_without_entering_does_nothing():
    """A stray mark in a thread that has no phase, and one too many."""
    phases, clock = _clock()
    phases.leave()
    phases.enter("forward")
    phases.leave()
    phases.leave()
    assert phases.since_last(clock.now) == {}
    assert phases.entries() == {"forward": 1}


def test_threads_have_phases_of_their_own():
    """A loader's phase neither pauses nor ends the trainer's: both take their 5 ns of the same time."""
    phases, clock = _clock()
    phases.enter("train")
    inside, leave = threading.Event(), threading.Event()

    def load():
        phases.enter("load")
        inside.set()
        leave.wait(20)
        phases.leave()

    thread = threading.Thread(target=load)
    thread.start()
    assert inside.wait(20)
    clock.later(5)
    leave.set()
    thread.join()
    phases.leave()
    assert phases.since_last(clock.later(9)) == {"train": 5, "load": 5}
    assert phases.entries() == {"train": 1, "load": 1}


def test_the_same_phase_in_two_threads_adds_up():
    """Two threads that load for 5 ns have loaded for 10."""
    phases, clock = _clock()
    both, go = threading.Barrier(3), threading.Event()

    def load():
        phases.enter("load")
        both.wait(20)
        go.wait(20)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait(20)
    clock.later(5)
    assert phases.since_last(clock.now) == {"load": 10}
    go.set()
    for thread in threads:
        thread.join()


class NosyTotals(dict[str, int]):
    """Totals that are read by the sampler while a mark writes them."""

    def __init__(self, read):
        super().__init__()
        self._read = read
        self.seen: list[dict[str, int]] = []

    def __setitem__(self, name, value):
        self.seen.append(self._read())
        super().__setitem__(name, value)
        self.seen.append(self._read())


def test_a_reading_in_the_middle_of_a_mark_never_sees_too_much():
    """An epoch of 1000 ns, then forward of 100 ns: what was read once too often could not be given back."""
    phases, clock = _clock()
    phases.enter("epoch")
    totals = NosyTotals(lambda: phases.since_last(clock.now))
    totals.update(epoch=0)
    phases._threads[threading.get_ident()].totals_ns = totals
    clock.later(1000)
    phases.enter("forward")
    clock.later(100)
    phases.leave()
    phases.leave()
    totals.seen.append(phases.since_last(clock.now))
    for name, true_ns in (("epoch", 1000), ("forward", 100)):
        assert sum(reading.get(name, 0) for reading in totals.seen) == true_ns


class NosyClock(Clock):
    """Reads the phases whenever a mark asks for the time, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.phases: PhaseClock | None = None
        self.seen: list[dict[str, int]] = []

    def __call__(self):
        if self.phases is not None:
            self.seen.append(self.phases.since_last(self.now))
        return self.now


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "leave"]), st.integers(0, 1000), st.booleans()), max_size=40
    )
)
def test_readings_add_up_to_the_own_times_of_a_simple_stack(marks):
    """However marks and readings alternate, each nanosecond goes to the innermost open phase, once."""
    clock = NosyClock()
    phases = PhaseClock(clock)
    clock.phases = phases
    stack: list[str] = []
    expected: dict[str, int] = {}
    for name, ns, read in marks:
        if name == "leave":
            phases.leave()
            del stack[-1:]
        else:
            phases.enter(name)
            stack.append(name)
        clock.later(ns)
        if stack:
            expected[stack[-1]] = expected.get(stack[-1], 0) + ns
        if read:
            clock.seen.append(phases.since_last(clock.now))
    clock.seen.append(phases.since_last(clock.now))
    total: dict[str, int] = {}
    for reading in clock.seen:
        for name, ns in reading.items():
            assert ns > 0
            total[name] = total.get(name, 0) + ns
    assert total == {name: ns for name, ns in expected.items() if ns}


MS = 10**6


def test_a_reading_of_a_moment_in_the_past_leaves_out_what_came_after():
    """Asked 12 ms after the moment: forward had 5 of its 8 ms by then, and the next reading brings the other 3."""
    phases, clock = _clock()
    phases.enter("forward")
    moment = clock.later(5 * MS)
    clock.later(3 * MS)
    phases.leave()
    phases.enter("update")
    clock.later(9 * MS)
    phases.leave()
    assert phases.since_last(moment) == {"forward": 5 * MS}
    assert phases.since_last(clock.now) == {"forward": 3 * MS, "update": 9 * MS}


def test_the_tail_holds_the_stays_of_the_last_200_ms():
    """150 ms of loading, 30 ms of nothing, 100 ms of forward that goes on: loading's first 80 ms are too long ago."""
    phases, clock = _clock()
    phases.enter("load")
    clock.later(150 * MS)
    phases.leave()
    clock.later(30 * MS)
    phases.enter("forward")
    now = clock.later(100 * MS)
    clock.later(7 * MS)
    phases.leave()
    assert phases.tail(now) == [("forward", 100_000, 0), ("load", 200_000, 130_000)]
    assert phases.tail(now + 400 * MS) == []


def test_the_tail_goes_on_with_the_phase_around():
    """An evaluation of 10 ms within an epoch: the epoch before it and after it."""
    phases, clock = _clock()
    phases.enter("epoch")
    clock.later(20 * MS)
    phases.enter("evaluate")
    clock.later(10 * MS)
    phases.leave()
    assert phases.tail(clock.later(5 * MS)) == [
        ("epoch", 5_000, 0),
        ("evaluate", 15_000, 5_000),
        ("epoch", 35_000, 15_000),
    ]


def test_marks_without_end_have_no_tail():
    """A phase every microsecond: what was on 200 ms ago is not kept, so nothing is said."""
    phases, clock = _clock()
    for _ in range(200):
        phases.enter("forward")
        clock.later(1000)
        phases.leave()
    assert phases.tail(clock.now) is None
    assert phases.tail(clock.later(300 * MS)) == []


class Cuda:
    """Counts how often it was waited for."""

    def __init__(self, *, used):
        self.is_initialized = lambda: used
        self.waited = 0

    def synchronize(self):
        self.waited += 1


@pytest.mark.parametrize("used", [True, False])
def test_the_device_is_waited_for_only_where_torch_uses_one(used):
    """CUDA that was never started is not started by waiting for it."""
    cuda = Cuda(used=used)
    wait_for_device({"torch": SimpleNamespace(cuda=cuda)})
    assert cuda.waited == used
    wait_for_device({})

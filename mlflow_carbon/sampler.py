"""One thread that reads every sensor on a steady beat and hands each tick to its listeners.

It keeps absolute deadlines, so it does not drift; it parks without waking while nobody listens. It writes no
file, knows no run and never raises: a sensor that does is a sample with an error.

Where power is read and not energy, and less than ten times a second, each beat is moved at random within its
period: a steady beat may see nothing but the peaks of a load that repeats, a random one sees a fair sample.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Protocol

from mlflow_carbon.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_carbon.core.series import Sample, Tick
    from mlflow_carbon.sensors import Clock, Discovery, Observer, Sensor

__all__ = ["Listener", "Sampler", "SystemClock", "read"]

_logger = logging.getLogger(__name__)

_EARLY_NS = 10 * NS_PER_S  # finding the sensors may take so long; older readings say nothing about a run
_FACTS_NS = 5 * NS_PER_S
_STEADY_NS = NS_PER_S // 10  # at 10 Hz and more the meters' own averages are as slow as we are


class SystemClock:
    """The clocks of this machine."""

    def monotonic_ns(self) -> int:
        """Monotonic nanoseconds."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """UTC nanoseconds since the epoch."""
        return time.time_ns()


class Listener(Protocol):
    """Who wants ticks. Called in the sampler's thread; must be quick."""

    def on_tick(self, tick: Tick, discovery: Discovery) -> None:
        """One pass over all sensors."""


class Sampler:
    """Reads sensors every `period_s` while somebody listens.

    Args:
        discover: Finds the sensors; runs once, in the sampler's thread.
        period_s: Seconds between ticks.
        clock: The two clocks.
        draw: Random numbers from 0 to 1, of a generator of our own: a training's must not move.
    """

    def __init__(
        self,
        *,
        discover: Callable[[], Discovery],
        period_s: float,
        clock: Clock,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self._discover = discover
        self._clock = clock
        draw = draw or Random().random  # noqa: S311 - when to read is no secret
        self._beat = _Beat(round(period_s * NS_PER_S), draw)
        self._changed = threading.Condition()
        self._listeners: list[Listener] = []
        self._thread: threading.Thread | None = None
        self._poked = False
        self._retiring = False
        self._seq = 0
        self._last: Tick | None = None
        self.discovery: Discovery | None = None
        self.cpu_ns = 0
        """CPU time this sampler's thread has used."""

    def warm_up(self) -> None:
        """Start the thread, which looks for sensors and then waits for a listener."""
        with self._changed:
            self._retiring = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mlflow-carbon-sampler", daemon=True)
                self._thread.start()

    def subscribe(self, listener: Listener) -> None:
        """Send ticks to a listener from now on, the first at once."""
        with self._changed:
            self._listeners.append(listener)
            self._poked = True
            self._changed.notify_all()
        self.warm_up()

    def unsubscribe(self, listener: Listener) -> None:
        """Send no more ticks to a listener."""
        with self._changed:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def retire(self) -> None:
        """Let the thread end and the sensors go; the next listener starts both again."""
        with self._changed:
            self._retiring = self._thread is not None
            self._changed.notify_all()

    def poke(self, *, unless_within_s: float = 0.0) -> None:
        """Ask for a tick now, unless the last one is as fresh as that."""
        with self._changed:
            fresh_ns = unless_within_s * NS_PER_S
            if self._last is None or self._clock.monotonic_ns() - self._last.t_mono_ns >= fresh_ns:
                self._poked = True
                self._changed.notify_all()

    def wait_for_tick(self, since_ns: int, timeout_s: float) -> bool:
        """Wait until a tick at or after `since_ns` has been handed out; False after the timeout."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._last is not None and self._last.t_mono_ns >= since_ns, timeout_s
            )

    def _run(self) -> None:
        discovery = self._discover()
        with self._changed:
            self.discovery = discovery
            self._beat.is_dithered = _needs_dither(discovery, self._beat.period_ns)
            self._changed.notify_all()
        deadline_ns = self._clock.monotonic_ns()
        facts, first = _Facts(discovery.observers), discovery.first
        while True:
            deadline_ns = self._wait(deadline_ns)
            if self._is_over():
                break
            tick, first = self._tick(discovery.sensors, facts, first), ()
            for listener in tuple(self._listeners):
                self._hand_out(listener, tick, discovery)
            self.cpu_ns = time.thread_time_ns()
            with self._changed:
                self._last = tick
                self._changed.notify_all()
        _close(discovery)

    def _is_over(self) -> bool:
        with self._changed:
            if not self._retiring:
                return False
            self._thread, self._retiring = None, False
            return True

    def _wait(self, deadline_ns: int) -> int:
        """Sleep until the next beat or a poke; return the beat after that."""
        with self._changed:
            while not self._poked and not self._retiring:
                if not self._listeners:
                    self._changed.wait()
                    deadline_ns = self._clock.monotonic_ns()
                    continue
                late_ns = self._clock.monotonic_ns() - deadline_ns - self._beat.offset_ns
                if late_ns >= 0:
                    break
                self._changed.wait(-late_ns / NS_PER_S)
            self._poked = False
        now_ns = self._clock.monotonic_ns()
        if now_ns < deadline_ns + self._beat.offset_ns:  # a poke between beats moves no beat
            return deadline_ns
        missed = max(0, now_ns - deadline_ns) // self._beat.period_ns
        self._beat.move()
        return deadline_ns + (missed + 1) * self._beat.period_ns

    def _tick(
        self, sensors: tuple[Sensor, ...], facts: _Facts | None = None, first: tuple[Sample, ...] = ()
    ) -> Tick:
        from mlflow_carbon.core.series import Tick

        t_mono_ns, t_wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        early = [sample for sample in first if t_mono_ns - sample.t_mono_ns <= _EARLY_NS]
        samples = (*early, *(sample for sensor in sensors for sample in read(sensor, self._clock)))
        tick = Tick(
            seq=self._seq,
            t_mono_ns=t_mono_ns,
            t_wall_ns=t_wall_ns,
            samples=samples,
            facts=facts.due(t_mono_ns) if facts is not None else None,
        )
        self._seq += 1
        return tick

    def _hand_out(self, listener: Listener, tick: Tick, discovery: Discovery) -> None:
        try:
            listener.on_tick(tick, discovery)
        except Exception:
            _logger.warning("a listener failed and gets no more readings", exc_info=True)
            self.unsubscribe(listener)


def read(sensor: Sensor, clock: Clock) -> tuple[Sample, ...]:
    """Read a sensor; one that raises has failed to read, all channels of it."""
    from mlflow_carbon.core.series import Sample
    from mlflow_carbon.sensors.contract import explain

    try:
        return tuple(sensor.read(clock))
    except Exception as error:  # noqa: BLE001 - a sensor of any vendor may raise anything
        now_ns = clock.monotonic_ns()
        text = explain(error)[:200]
        return tuple(Sample(channel=c.id, t_mono_ns=now_ns, error=text) for c in sensor.channels)


def _close(discovery: Discovery) -> None:
    """Let go of what is of no use any more; not even its failure is."""
    for sensor in discovery.sensors:
        with suppress(Exception):
            sensor.close()
    for observer in discovery.observers:
        with suppress(Exception):
            observer.close()


class _Facts:
    """What is recorded beside power: temperatures, clocks, bytes; every few seconds, as it takes long."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        self._next_ns = 0

    def due(self, now_ns: int) -> dict[str, float] | None:
        """The facts, if it is time; None else, or where they cannot be had."""
        if not self._observers or now_ns < self._next_ns:
            return None
        self._next_ns = now_ns + _FACTS_NS
        from mlflow_carbon.sensors import observe

        try:
            return observe(self._observers)
        except Exception:
            _logger.debug("nothing is recorded beside power", exc_info=True)
            self._observers = ()
            return None


class _Beat:
    """The period, and how far the next reading is moved from its beat: up to half a period either way."""

    def __init__(self, period_ns: int, draw: Callable[[], float]) -> None:
        self._draw = draw
        self.period_ns = period_ns
        self.is_dithered = False
        self.offset_ns = 0

    def move(self) -> None:
        """Draw another place."""
        self.offset_ns = round((self._draw() - 0.5) * self.period_ns) if self.is_dithered else 0


def _needs_dither(discovery: Discovery, period_ns: int) -> bool:
    """Whether power is read, and rarely."""
    return period_ns > _STEADY_NS and any(channel.kind == "gauge" for channel in discovery.channels)

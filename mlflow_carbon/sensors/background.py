"""Sensors that are slow or may hang: asked in a thread of their own, at their own interval.

The sampler only collects what has come in since, each reading with its own time, so that a meter that
takes ten seconds to answer, or never does, delays no other reading. The thread starts with the first read.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mlflow_carbon.core.series import Channel, Kind, Sample
from mlflow_carbon.core.units import NS_PER_S
from mlflow_carbon.sensors.contract import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_carbon.sensors.contract import Clock, Values

__all__ = ["Background", "Pace", "Reading", "in_thread"]

_KEPT = 4096  # readings; more are only there when nobody listens
_PATIENCE = 3  # intervals without an answer that are no gap yet


class Reading(NamedTuple):
    """One answer: the place of its channel, its monotonic time and its value."""

    place: int
    t_mono_ns: int
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a source is asked.

    Attributes:
        every_s: Seconds between questions.
        timeout_s: Seconds that one answer may take.
        tries: Failures after which a source that has never answered is given up; 0: never.
    """

    every_s: float
    timeout_s: float
    tries: int = 0

    @property
    def patience_ns(self) -> int:
        """Silence that is no gap yet."""
        return round((_PATIENCE * self.every_s + self.timeout_s) * NS_PER_S)


def in_thread(poll: Callable[[], None], every_s: float) -> Callable[[], None]:
    """Poll in a daemon thread, at once and then so many seconds after each answer."""
    stopped = threading.Event()

    def run() -> None:
        poll()
        while not stopped.wait(every_s):
            poll()

    threading.Thread(target=run, name="mlflow-carbon-slow-meter", daemon=True).start()
    return stopped.set


class Background:
    """A sensor whose source is asked elsewhere.

    Args:
        channels: What it reads; a mean counts from the reading before, so it bridges the interval.
        ask: Gets what is new, in order of time; raises where the source fails.
        pace: How often it is asked.
        start: Calls a function again and again, so many seconds apart, and returns what stops it.
    """

    def __init__(
        self,
        channels: tuple[Channel, ...],
        ask: Callable[[Clock], Sequence[Reading]],
        *,
        pace: Pace,
        start: Callable[[Callable[[], None], float], Callable[[], None]] = in_thread,
    ) -> None:
        self.channels = channels
        self._ask = ask
        self._pace = pace
        self._start = start
        self._stop: Callable[[], None] | None = None
        self._clock: Clock | None = None
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._heard_ns = 0
        self._last_ns: dict[int, int] = {}
        self._failures = 0

    def read(self, clock: Clock) -> tuple[Sample, ...]:
        """What has come in since the last read; an error where the source has been silent for too long."""
        if self._stop is None:
            self._clock = clock
            self._heard_ns = clock.monotonic_ns()
            self._stop = self._start(self._poll, self._pace.every_s)
        samples = []
        while self._samples:
            samples.append(self._samples.popleft())
        now_ns = clock.monotonic_ns()
        silence_ns = now_ns - self._heard_ns
        if samples or self._has_given_up or silence_ns <= self._pace.patience_ns:
            return tuple(samples)
        text = f"TimeoutError: no answer for {silence_ns / NS_PER_S:.0f} s"
        return tuple(Sample(channel=c.id, t_mono_ns=now_ns, error=text) for c in self.channels)

    def close(self) -> None:
        """Stop asking. A poll under way ends by itself and changes nothing any more."""
        if self._stop is not None:
            self._stop()

    @property
    def _has_given_up(self) -> bool:
        """Whether the source has never answered: then it is none, and its failures are told no further."""
        return 0 < self._pace.tries <= self._failures and not self._last_ns

    def _poll(self) -> None:
        if self._clock is None or self._has_given_up:
            return
        start_ns = self._clock.monotonic_ns()
        try:
            for reading in self._ask(self._clock):
                self._take(reading, self._clock.monotonic_ns() - start_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would see it in this thread
            self._failures += 1
            now_ns = self._clock.monotonic_ns()
            failed = [Sample(channel=c.id, t_mono_ns=now_ns, error=_told(error)) for c in self.channels]
            self._samples.extend(failed)
        self._heard_ns = self._clock.monotonic_ns()

    def _take(self, reading: Reading, read_ns: int) -> None:
        channel = self.channels[reading.place]
        before_ns = self._last_ns.get(reading.place)
        late = before_ns is not None and reading.t_mono_ns - before_ns > self._pace.patience_ns
        if late and channel.kind is Kind.MEAN:
            # What was before the silence says nothing about it: the mean counts for one interval only.
            since_ns = reading.t_mono_ns - round(self._pace.every_s * NS_PER_S)
            self._samples.append(Sample(channel=channel.id, t_mono_ns=since_ns))
        sample = Sample(channel=channel.id, t_mono_ns=reading.t_mono_ns, read_ns=read_ns, **reading.values)
        self._last_ns[reading.place] = reading.t_mono_ns
        self._samples.append(sample)


def _told(error: Exception) -> str:
    """An error without the path or address in it, which would tell of whose machine it is."""
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return explain(error)

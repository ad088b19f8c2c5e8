"""Machines that store at the same time, call by call in any order: the run ends as their sum."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.session import merging
from tests.fakes import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random

    from mlflow_carbon.store import Point

START_MS = 1_700_000_000_000


class Turns:
    """Threads that take turns, one call to the store at a time, as a source of chance decides."""

    def __init__(self, jobs: Iterable[Callable[[], None]]) -> None:
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._running: set[int] = set()
        self._turn: int | None = None
        self._threads = {k: threading.Thread(target=self._run, args=(k, job)) for k, job in enumerate(jobs)}
        self._ids: dict[int, int] = {}

    def wait_for_turn(self) -> None:
        """Called by a job before each call to the store."""
        me = self._ids.get(threading.get_ident())
        if me is None:
            return
        with self._changed:
            self._waiting.add(me)
            self._running.discard(me)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._turn == me)
            self._turn = None
            self._waiting.discard(me)
            self._running.add(me)

    def play(self, random: Random) -> None:
        """Let them all run to their ends."""
        self._running = set(self._threads)
        for thread in self._threads.values():
            thread.start()
        while True:
            with self._changed:
                assert self._changed.wait_for(lambda: not self._running and self._turn is None, 30)
                if not self._waiting:
                    break
                self._turn = random.choice(sorted(self._waiting))
                self._running.add(self._turn)
                self._changed.notify_all()
        for thread in self._threads.values():
            thread.join(30)

    def _run(self, k: int, job: Callable[[], None]) -> None:
        self._ids[threading.get_ident()] = k
        try:
            job()
        finally:
            with self._changed:
                self._running.discard(k)
                self._changed.notify_all()


class Shared(MemorySink):
    """A store of several clients; each call is a turn."""

    turns: Turns | None = None

    def _ask(self) -> None:
        if self.turns is not None:
            self.turns.wait_for_turn()

    def end_state(self) -> tuple[object, ...]:
        """What a user sees: of a metric MLflow shows the value of the latest step and time."""
        latest: dict[str, Point] = {}
        for point in self.points:
            known = latest.get(point.key)
            if known is None or _order(point) >= _order(known):
                latest[point.key] = point
        return dict(self.files), dict(self.tags), latest, self.notes[-1]


def _order(point: Point) -> tuple[int, int, float]:
    return point.step, point.t_ms, point.value


def _document(k: int, number: int) -> bytes:
    """Machine k, which measured (k + 1) kWh for 10 s from second k on."""
    segment = {
        "id": f"{START_MS + 1000 * k}-{k}",
        "energy_kwh": k + 1.0,
        "emissions_gco2e": 100.0 * (k + 1),
        "duration_s": 10.0,
        "coverage_ratio": 1.0,
        "basis": "measured",
        "verdict": "ok",
    }
    document: Mapping[str, object] = {"name": str(k), "number": number, "segments": [segment]}
    return json.dumps(document).encode()


def _store(sink: MemorySink, k: int, number: int) -> None:
    sink.write_file(f"nodes/{k}.json", _document(k, number))
    merging.merge(sink, "run1")


@given(st.integers(2, 4), st.integers(0, 1), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_whatever_the_order_of_calls_the_last_sum_holds_all(here, absent, random):
    """Two to four machines, each call of each between any two of the others: as if one after the other."""
    expected, sink = Shared(), Shared()
    for k in range(here):
        _store(expected, k, here + absent)
    sink.turns = Turns([lambda k=k: _store(sink, k, here + absent) for k in range(here)])  # type: ignore[misc]
    sink.turns.play(random)
    assert sink.end_state() == expected.end_state()
    total = json.loads(sink.files["footprint.json"])["total"]
    assert total["energy_kwh"] == here * (here + 1) / 2
    assert total["duration_s"] == 10 + here - 1
    assert sink.tags["carbon.nodes"] == f"{here} of {here + absent}"
    assert sink.tags["carbon.verdict"] == ("warn" if absent else "ok")

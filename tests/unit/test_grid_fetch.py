"""The bounded GET against a server on the loopback, and the cache on disk."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.core.carbon import IntensitySlot
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.fetch import Cache, get

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Answer = tuple[int, dict[str, str], bytes]


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@contextmanager
def server(*answers: Answer) -> Iterator[tuple[str, list[str]]]:
    """A service that gives the answers in turn, the last one for ever; yields its address and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.headers["User-Agent"])
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Keep quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/x", asked
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def fetch(url: str, time: FakeTime, budget_s: float = 15.0) -> bytes:
    """One GET on the fake clock."""
    return get(url, budget_s=budget_s, monotonic=time.monotonic, sleep=time.sleep)


def test_a_good_answer_is_returned_at_once():
    """One request, our name on it, no wait."""
    time = FakeTime()
    with server((200, {}, b"{}")) as (url, asked):
        assert fetch(url, time) == b"{}"
    assert asked[0].startswith("mlflow-carbon/")
    assert time.slept == []


def test_server_errors_are_tried_again_with_growing_pauses():
    """500 twice, then an answer: pauses of 0.5 and 1 s, jittered by a quarter."""
    time = FakeTime()
    with server((500, {}, b""), (503, {}, b""), (200, {}, b"ok")) as (url, asked):
        assert fetch(url, time) == b"ok"
    assert len(asked) == 3
    assert 0.375 <= time.slept[0] <= 0.625
    assert 0.75 <= time.slept[1] <= 1.25


def test_three_retries_are_enough():
    """The fourth failure is the end, with the reason in the message."""
    time = FakeTime()
    with server((502, {}, b"")) as (url, asked), pytest.raises(GridError, match="got HTTP 502"):
        fetch(url, time)
    assert len(asked) == 4


def test_a_short_retry_after_is_obeyed():
    """429 with Retry-After: 4 waits four seconds."""
    time = FakeTime()
    with server((429, {"Retry-After": "4"}, b""), (200, {}, b"ok")) as (url, _):
        assert fetch(url, time) == b"ok"
    assert time.slept == [4.0]


@pytest.mark.parametrize("after", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT", "soon"])
def test_a_long_or_dated_retry_after_is_a_failure_at_once(after):
    """Nobody waits longer than the budget."""
    time = FakeTime()
    with (
        server((429, {"Retry-After": after}, b"")) as (url, asked),
        pytest.raises(GridError, match="HTTP 429"),
    ):
        fetch(url, time)
    assert len(asked) == 1
    assert time.slept == []


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_tried_again(status):
    """The same question would get the same answer."""
    time = FakeTime()
    with server((status, {}, b"")) as (url, asked), pytest.raises(GridError, match=f"HTTP {status}"):
        fetch(url, time)
    assert len(asked) == 1


def test_nobody_listening_is_a_grid_error():
    """A refused connection names the address."""
    with server((200, {}, b"")) as (url, _):
        pass
    with pytest.raises(GridError, match=r"127\.0\.0\.1.*ConnectionError"):
        fetch(url, FakeTime())


def test_a_budget_already_spent_stops_the_retries():
    """With no time left the first failure is the last."""
    time = FakeTime()
    with server((500, {}, b"")) as (url, asked), pytest.raises(GridError, match=r"within 0\.2 s"):
        fetch(url, time, budget_s=0.2)
    assert len(asked) == 1


def test_an_endless_answer_is_cut_off():
    """Nobody reads more than 4 MB of intensities."""
    with (
        server((200, {}, b"x" * 4_000_100)) as (url, _),
        pytest.raises(GridError, match="at most 4000000 bytes"),
    ):
        fetch(url, FakeTime())


def slot(start_s: int, value: float = 100.0) -> IntensitySlot:
    """A half hour of forecast."""
    return IntensitySlot(
        start_s=start_s,
        end_s=start_s + 1800,
        gco2e_per_kwh=value,
        low_gco2e_per_kwh=value / 2,
        high_gco2e_per_kwh=value * 2,
        kind="forecast",
    )


def test_slots_come_back_as_they_were_kept(tmp_path):
    """With the time they were fetched, over midnight, and only those of the window."""
    cache = Cache(folder=tmp_path / "cache")
    slots = [slot(t) for t in range(84_600, 90_001, 1800)]
    cache.save("s", "GB", slots, now_s=84_700.0)
    found = cache.load("s", "GB", 86_400, 90_000)
    assert [found[t].slot for t in (86_400, 88_200)] == slots[1:3]
    assert found[86_400].fetched_s == 84_700.0
    assert cache.load("s", "DE", 0, 200_000) == {}
    assert cache.load("other", "GB", 0, 200_000) == {}


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 200), st.floats(1, 1000)), max_size=30))
def test_the_last_write_of_a_slot_counts(tmp_path_factory, writes):
    """Whatever the order of writes, the cache holds for each slot what came last."""
    cache = Cache(folder=tmp_path_factory.mktemp("cache"))
    for n, (index, value) in enumerate(writes):
        cache.save("s", "GB", [slot(index * 1800, value)], now_s=n)
    found = cache.load("s", "GB", 0, 201 * 1800)
    assert {t: e.slot.gco2e_per_kwh for t, e in found.items()} == {i * 1800: v for i, v in writes}


@pytest.mark.parametrize(
    "content", [b"", b"[", b"{}", b"[{}]", b"[1]", b"\xff", b'[{"slot": {"start_s": 0}, "fetched_s": 0}]']
)
def test_a_damaged_file_counts_as_absent_and_is_mended(tmp_path, content):
    """A cut-off or foreign file is no error and does not stay."""
    file = tmp_path / "s" / "GB" / "0.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    cache = Cache(folder=tmp_path)
    assert cache.load("s", "GB", 0, 86_400) == {}
    cache.save("s", "GB", [slot(0)], now_s=1)
    assert set(cache.load("s", "GB", 0, 86_400)) == {0}


def test_nothing_is_left_beside_the_files(tmp_path):
    """The part file was renamed."""
    Cache(folder=tmp_path).save("s", "GB", [slot(0)], now_s=1)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["0.json"]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    """A file where the folder should be: nothing is kept, nothing is raised."""
    blocked: Path = tmp_path / "cache"
    blocked.write_text("in the way")
    Cache(folder=blocked).save("s", "GB", [slot(0)], now_s=1)
    assert Cache(folder=blocked).load("s", "GB", 0, 86_400) == {}


def test_no_folder_keeps_nothing():
    """The cache may be switched off."""
    cache = Cache(folder=None)
    cache.save("s", "GB", [slot(0)], now_s=1)
    assert cache.load("s", "GB", 0, 86_400) == {}

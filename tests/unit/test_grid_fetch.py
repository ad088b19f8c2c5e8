"""The bounded GET against a server on the loopback, and where a token goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.contract import Request, Token
from mlflow_carbon.grid.fetch import get
from tests.loopback import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

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
def server(*answers: Answer, tokens: list[str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """A service that gives the answers in turn, the last one for ever; yields its address and what was asked."""
    asked: list[str] = []
    heard = [] if tokens is None else tokens

    def reply(_path: str, headers: Message) -> Answer:
        answer = answers[min(len(asked), len(answers) - 1)]
        asked.append(headers["User-Agent"])
        heard.append(headers.get("auth-token", ""))
        return answer

    with loopback(reply) as url:
        yield f"{url}/x", asked


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


SECRET = "s3cret-t0ken"  # noqa: S105 - opens nothing
ENV = {"THE_TOKEN": SECRET}


def secured(url: str) -> Request:
    """A question that needs a token."""
    token = Token(header="auth-token", variable="THE_TOKEN")
    return Request(url=url, what="now", place="DE", token=token, remedy="set THE_TOKEN to a good token")


def ask(url: str, env: dict[str, str] | None = None) -> bytes:
    """One GET with a token on the fake clock."""
    time = FakeTime()
    given = ENV if env is None else env
    return get(secured(url), env=given, monotonic=time.monotonic, sleep=time.sleep)


def test_a_token_goes_into_the_header_and_nowhere_else():
    """The request names the variable only, so nothing that is logged can hold the secret."""
    tokens: list[str] = []
    with server((200, {}, b"{}"), tokens=tokens) as (url, _):
        ask(url)
        assert tokens == [SECRET]
        assert SECRET not in repr(secured(url))


@pytest.mark.parametrize("key", ["error", "message"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_says_what_to_do_and_not_what_it_is(status, key):
    """The service's words are quoted, but for the token, should it echo it."""
    words = f'{{"{key}": "Invalid auth-token {SECRET}"}}'.encode()
    with server((status, {}, words)) as (url, asked), pytest.raises(GridError) as caught:
        ask(url)
    assert f"HTTP {status} (Invalid auth-token <token>); set THE_TOKEN to a good token" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert (caught.value.status, caught.value.is_refusal, len(asked)) == (status, True, 1)


@pytest.mark.parametrize("env", [{}, {"THE_TOKEN": " "}])
def test_without_a_token_nobody_is_asked(env):
    """The message names the variable's remedy."""
    with server((200, {}, b"{}")) as (url, asked), pytest.raises(GridError, match="a token is needed; set"):
        ask(url, env)
    assert asked == []


@pytest.mark.parametrize("secret", ["sécret", "a\nb: c"])
def test_a_token_that_is_no_header_is_refused_unsaid(secret):
    """Line ends would make headers of their own, and other letters raise deep inside."""
    with pytest.raises(GridError, match="THE_TOKEN: expected plain letters") as caught:
        ask("http://127.0.0.1:1/x", {"THE_TOKEN": secret})
    assert secret not in str(caught.value)


def test_a_redirect_does_not_take_the_token_along():
    """The other host hears nothing."""
    stolen: list[str] = []
    with (
        server((200, {}, b"{}"), tokens=stolen) as (elsewhere, _),
        server((302, {"Location": elsewhere}, b"")) as (url, _),
        pytest.raises(GridError, match="HTTP 302"),
    ):
        ask(url)
    assert stolen == []


def test_how_long_a_service_wants_to_be_left_alone_is_kept():
    """As a number, or as a date beside the service's own; the ledger waits that long."""
    later = {"Date": "Mon, 02 Mar 2026 12:00:00 GMT", "Retry-After": "Mon, 02 Mar 2026 14:00:00 GMT"}
    for headers in ({"Retry-After": "7200"}, later):
        with server((429, headers, b"")) as (url, _), pytest.raises(GridError) as caught:
            fetch(url, FakeTime())
        assert (caught.value.retry_after_s, caught.value.is_refusal) == (7200, False)

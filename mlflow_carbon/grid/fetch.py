"""The network of the grid providers: one bounded GET, with retries, and the secret put in at the last moment.

Everything has an end: each wait, the whole call and the size of an answer. What may not be said
is in `secret`; where a service wants a login first, its token is kept in memory until shortly before its end.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from random import uniform
from typing import TYPE_CHECKING, NamedTuple

from mlflow_carbon._version import __version__
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import secret
from mlflow_carbon.grid.answers import said
from mlflow_carbon.grid.cache import Cache
from mlflow_carbon.grid.contract import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    import requests

    from mlflow_carbon.grid.secret import Pass, Secret

__all__ = ["BUDGET_S", "Cache", "get"]

BUDGET_S = 15.0
"""Longest that one call may take, retries and waits included.

A name lookup and one read of at most 10 s cannot be cut short.
"""

_TIMEOUT_S = (3.0, 10.0)  # connect, read
_PAUSES_S = (0.5, 1.0, 2.0)
_RETRIED = frozenset({429, 500, 502, 503, 504})
_MAX_BYTES = 4_000_000
_MAX_WORDS_BYTES = 10_000
_CHUNK = 64  # the deadline is looked at between chunks, so small ones notice a server that drips
_OK, _UNAUTHORIZED = 200, 401


def get(
    request: Request | str,
    *,
    env: Mapping[str, str] | None = None,
    budget_s: float = BUDGET_S,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    passes: MutableMapping[str, Pass] | None = None,
) -> bytes:
    """Body of a successful GET, within the budget: up to three retries with growing, jittered pauses.

    The retries are ours and not urllib3's, because that one sleeps through any `Retry-After`, however
    long; here a wait that does not fit into the budget is a failure at once.

    Args:
        request: What to ask; a plain address needs no token.
        env: Where the token is; None takes the process's environment.
        budget_s: Longest duration in seconds, by the clock that follows.
        monotonic: That clock.
        sleep: Waits between tries.
        passes: Tokens of earlier logins by address, to be kept by the caller; None logs in each time.

    Raises:
        GridError: If there is no good answer in time; the message names the address, the reason and, where
            the service refuses, what to do.
    """
    import requests

    asked = Request(url=request, what="", place="") if isinstance(request, str) else request
    own = secret.of(asked, os.environ if env is None else env)
    with requests.Session() as session:
        session.headers["User-Agent"] = f"mlflow-carbon/{__version__}"
        line = _Line(session, monotonic() + budget_s, budget_s, monotonic, sleep)
        login = asked.token.login if asked.token is not None else None
        if login is None:
            return line.ask(asked, own)
        door = replace(asked, url=login.url)
        return _logged_in(line, asked, door=door, own=own, passes={} if passes is None else passes)


def _logged_in(
    line: _Line, asked: Request, *, door: Request, own: Secret, passes: MutableMapping[str, Pass]
) -> bytes:
    """The answer to a question with a token that is kept, or asked for first where it is none or no more."""
    held = passes.get(door.url)
    if held is not None and line.monotonic() < held.until_s:
        try:
            return line.ask(asked, secret.bearer(held.token))
        except GridError as error:
            if error.status != _UNAUTHORIZED:
                raise
    passes.pop(door.url, None)
    given = secret.passed(line.ask(door, own), door, line.monotonic())
    passes[door.url] = given
    return line.ask(asked, secret.bearer(given.token))


class _Line(NamedTuple):
    """A session and the time that is left for it."""

    session: requests.Session
    deadline_s: float
    budget_s: float
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]

    def ask(self, asked: Request, along: Secret) -> bytes:
        """One question, again after a fault that may pass."""
        import requests

        failure = GridError("")
        for pause in (*_PAUSES_S, None):
            try:
                with along.unlogged(), self._send(asked, along) as answer:
                    if answer.status_code == _OK:
                        return along.unsaid(_body(answer, asked, self._is_in_time))
                    failure = _failure(asked, answer, self.budget_s, along)
                    wait = _wait(failure, answer, pause)
            except requests.RequestException as error:
                # Its type alone: its text may quote a header or an address.
                failure = GridError(_expected(asked, self.budget_s, type(error).__name__))
                wait = _jittered(pause)
            if wait is None or self.monotonic() + wait >= self.deadline_s:
                break
            self.sleep(wait)
        raise failure

    def _send(self, asked: Request, along: Secret) -> requests.Response:
        left = max(0.01, self.deadline_s - self.monotonic())
        return self.session.get(
            asked.url,
            params=along.query,
            headers=along.headers,
            auth=_as_given,
            timeout=(min(_TIMEOUT_S[0], left), min(_TIMEOUT_S[1], left)),
            stream=True,
            # A redirect would take the secret along, to whatever host.
            allow_redirects=asked.token is None,
        )

    def _is_in_time(self) -> bool:
        return self.monotonic() < self.deadline_s


def _as_given(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the headers as they are: without this, requests puts what `~/.netrc` holds over ours."""
    return request


def _expected(request: Request, budget_s: float, got: str) -> str:
    return f"{request.url}: expected an answer within {budget_s:g} s, got {got}"


def _failure(request: Request, answer: requests.Response, budget_s: float, along: Secret) -> GridError:
    """What went wrong, in the service's words where it has some, without the secret if it quotes it."""
    found = GridError("", status=answer.status_code, retry_after_s=_retry_after_s(answer))
    words = ""
    if found.is_refusal:
        try:
            words = said(json.loads(b"".join(answer.iter_content(_MAX_WORDS_BYTES))[:_MAX_WORDS_BYTES]))
        except (ValueError, RecursionError, OSError):  # requests' own errors are OSErrors
            words = ""
    words = along.unsaid(words.encode()).decode()
    text = _expected(request, budget_s, f"HTTP {answer.status_code}" + (f" ({words})" if words else ""))
    remedy = f"; {request.remedy}" if found.is_refusal and request.remedy else ""
    return GridError(text + remedy, status=found.status, retry_after_s=found.retry_after_s)


def _retry_after_s(answer: requests.Response) -> float:
    """Seconds that the service asks for, as a number or a date beside its own `Date`; 0 if it does not."""
    asked = answer.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        wait = parsedate_to_datetime(asked) - parsedate_to_datetime(answer.headers.get("Date", ""))
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, wait.total_seconds())


def _jittered(pause: float | None) -> float | None:
    return None if pause is None else pause * uniform(0.75, 1.25)  # noqa: S311 - jitter


def _wait(failure: GridError, answer: requests.Response, pause: float | None) -> float | None:
    """How long to wait before the next try; None if another try is of no use."""
    if failure.status not in _RETRIED or pause is None:
        return None
    asked = answer.headers.get("Retry-After", "").strip()
    if not asked:
        return _jittered(pause)
    # A date is never worth waiting for here; the ledger takes it to heart.
    return max(pause, float(asked)) if asked.isdecimal() else None


def _body(answer: requests.Response, asked: Request, in_time: Callable[[], bool]) -> bytes:
    body = bytearray()
    for chunk in answer.iter_content(_CHUNK):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise GridError(f"{asked.url}: expected at most {_MAX_BYTES} bytes, got more")
        if not in_time():
            raise GridError(f"{asked.url}: the answer came too slowly")
    return bytes(body)

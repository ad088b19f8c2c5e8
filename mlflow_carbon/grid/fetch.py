"""The network of the grid providers: one bounded GET, with retries, and the secret put in at the last moment.

Everything has an end: each wait, the whole call and the size of an answer. A token is read from the
environment here and nowhere else; it goes into a header, never into an address, a message, a file or a
redirect.
"""

from __future__ import annotations

import json
import os
import time
from email.utils import parsedate_to_datetime
from random import uniform
from typing import TYPE_CHECKING

from mlflow_carbon._version import __version__
from mlflow_carbon.errors import GridError
from mlflow_carbon.grid.answers import said
from mlflow_carbon.grid.cache import Cache
from mlflow_carbon.grid.contract import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

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
_OK = 200


def get(
    request: Request | str,
    *,
    env: Mapping[str, str] | None = None,
    budget_s: float = BUDGET_S,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
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

    Raises:
        GridError: If there is no good answer in time; the message names the address, the reason and, where
            the service refuses, what to do.
    """
    import requests

    asked = Request(url=request, what="", place="") if isinstance(request, str) else request
    headers = _headers(asked, os.environ if env is None else env)
    deadline = monotonic() + budget_s
    failure = GridError("")
    with requests.Session() as session:
        session.headers.update(headers)
        for pause in (*_PAUSES_S, None):
            left = max(0.01, deadline - monotonic())
            try:
                timeout = (min(_TIMEOUT_S[0], left), min(_TIMEOUT_S[1], left))
                with session.get(
                    asked.url, timeout=timeout, stream=True, allow_redirects=_may_follow(asked)
                ) as answer:
                    if answer.status_code == _OK:
                        return _unsaid(_body(answer, lambda: monotonic() < deadline), asked, headers)
                    failure = _failure(asked, answer, budget_s, headers)
                    wait = _wait(failure, answer, pause)
            except requests.RequestException as error:
                # Its type alone: its text may quote a header.
                failure, wait = GridError(_expected(asked, budget_s, type(error).__name__)), _jittered(pause)
            if wait is None or monotonic() + wait >= deadline:
                break
            sleep(wait)
    raise failure


def _may_follow(request: Request) -> bool:
    """Whether a redirect may be followed: it would take the token along, to whatever host."""
    return request.token is None


def _headers(request: Request, env: Mapping[str, str]) -> dict[str, str]:
    ours = {"User-Agent": f"mlflow-carbon/{__version__}"}
    if request.token is None:
        return ours
    secret = env.get(request.token.variable, "").strip()
    if not secret:
        raise GridError(
            f"{request.url}: a token is needed; {request.remedy or f'set {request.token.variable}'}"
        )
    if not (secret.isascii() and secret.isprintable()):
        raise GridError(f"{request.token.variable}: expected plain letters and digits, got others")
    return {**ours, request.token.header: secret}


def _expected(request: Request, budget_s: float, got: str) -> str:
    return f"{request.url}: expected an answer within {budget_s:g} s, got {got}"


def _failure(
    request: Request, answer: requests.Response, budget_s: float, headers: Mapping[str, str]
) -> GridError:
    """What went wrong, in the service's words where it has some, without the secret if it quotes it."""
    found = GridError("", status=answer.status_code, retry_after_s=_retry_after_s(answer))
    words = ""
    if found.is_refusal:
        try:
            words = said(json.loads(b"".join(answer.iter_content(_MAX_WORDS_BYTES))[:_MAX_WORDS_BYTES]))
        except (ValueError, RecursionError, OSError):  # requests' own errors are OSErrors
            words = ""
    words = _unsaid(words.encode(), request, headers).decode()
    text = _expected(request, budget_s, f"HTTP {answer.status_code}" + (f" ({words})" if words else ""))
    remedy = f"; {request.remedy}" if found.is_refusal and request.remedy else ""
    return GridError(text + remedy, status=found.status, retry_after_s=found.retry_after_s)


def _unsaid(text: bytes, request: Request, headers: Mapping[str, str]) -> bytes:
    """An answer without the secret, should the service quote it: what it says may end up in a note."""
    return text if request.token is None else text.replace(headers[request.token.header].encode(), b"<token>")


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


def _body(answer: requests.Response, in_time: Callable[[], bool]) -> bytes:
    body = bytearray()
    for chunk in answer.iter_content(_CHUNK):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise GridError(f"{answer.url}: expected at most {_MAX_BYTES} bytes, got more")
        if not in_time():
            raise GridError(f"{answer.url}: the answer came too slowly")
    return bytes(body)

"""Secrets in addresses and logins: where they go, how long they are kept, and that nothing says them."""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from mlflow_carbon.errors import GridError
from mlflow_carbon.grid import secret
from mlflow_carbon.grid.contract import Login, Request, Token
from mlflow_carbon.grid.fetch import get
from tests.loopback import loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

KEY = "k3y+with/odd&signs"
LOGIN = "me:p4ss:word"
Heard = tuple[str, str]  # path, Authorization


@contextmanager
def service(answer: Callable[[str, str], tuple[int, bytes]]) -> Iterator[tuple[str, list[Heard]]]:
    """A service on the loopback that answers by path and Authorization; yields its address and what it heard."""
    heard: list[Heard] = []

    def reply(path: str, headers: Message) -> tuple[int, dict[str, str], bytes]:
        heard.append((path, headers.get("Authorization", "")))
        status, body = answer(*heard[-1])
        return status, {}, body

    with loopback(reply) as url:
        yield url, heard


def keyed(url: str) -> Request:
    """A question whose key goes into the address."""
    token = Token(parameter="api_key", variable="THE_KEY")
    return Request(
        url=f"{url}/data?a=1", what="history", place="DE", token=token, remedy="get a key for THE_KEY"
    )


def ask_keyed(url: str) -> bytes:
    """One GET with the key."""
    return get(keyed(url), env={"THE_KEY": KEY}, budget_s=0.3)


def test_a_key_in_the_address_is_added_when_it_is_sent():
    """The service gets it whole; the request, which keys cache and ledger, does not hold it."""
    with service(lambda *_: (200, b"{}")) as (url, heard):
        ask_keyed(url)
        assert parse_qs(urlsplit(heard[0][0]).query) == {"a": ["1"], "api_key": [KEY]}
        assert KEY not in repr(keyed(url))


@pytest.mark.parametrize("status", [200, 403, 500])
def test_a_key_in_the_address_is_never_said(status, caplog):
    """Neither by urllib3, which logs addresses at DEBUG, nor in a message, nor in a body that echoes it."""
    words = json.dumps({"error": {"code": "API_KEY_INVALID", "message": f"no key {KEY}"}}).encode()
    with caplog.at_level(logging.DEBUG), service(lambda *_: (status, words)) as (url, heard):
        try:
            said = ask_keyed(url).decode()
        except GridError as error:
            said = str(error)
    assert heard
    spellings = (KEY, "k3y%2Bwith", "odd%26signs")
    assert not [w for w in spellings if w in said + caplog.text]
    assert "api_key=<token>" in caplog.text
    if status == 403:
        assert "HTTP 403 (no key <token>); get a key for THE_KEY" in said


def test_a_key_is_not_said_where_nobody_listens(caplog):
    """The errors of the network library quote the address; only their type is told."""
    with service(lambda *_: (200, b"")) as (url, _):
        pass
    with caplog.at_level(logging.DEBUG), pytest.raises(GridError) as caught:
        ask_keyed(url)
    assert "k3y" not in str(caught.value) + caplog.text


def test_the_log_of_others_is_left_as_it_was():
    """The filter is gone after the call."""
    logger = logging.getLogger("urllib3.connectionpool")
    before = list(logger.filters)
    with service(lambda *_: (200, b"{}")) as (url, _):
        ask_keyed(url)
    assert logger.filters == before


def wanted(url: str) -> Request:
    """A question that needs a login."""
    login = Login(url=f"{url}/login", key="token", lasts_s=1800)
    token = Token(variable="THE_LOGIN", login=login)
    return Request(url=f"{url}/data", what="history", place="DE", token=token, remedy="mend THE_LOGIN")


class Door:
    """Gives tokens `t1`, `t2` ... for the right password, and data for those that are still good."""

    def __init__(self) -> None:
        self.given = 0
        self.good: set[str] = set()

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        if path == "/login":
            if b64decode(authorization.removeprefix("Basic ")).decode() != LOGIN:
                return 401, b"Unauthorized"
            self.given += 1
            self.good.add(f"t{self.given}")
            return 200, json.dumps({"token": f"t{self.given}"}).encode()
        is_good = authorization.removeprefix("Bearer ") in self.good
        return (200, b"data") if is_good else (401, b'{"error": "token expired"}')


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_login_gives_a_token_that_is_kept_until_shortly_before_its_end():
    """Of 30 minutes 24 are used: two questions in that time need one login, a later one a second."""
    door, clock = Door(), Clock()
    passes: dict[str, secret.Pass] = {}
    with service(door.answer) as (url, heard):
        for now in (0.0, 1439.0, 1441.0):
            clock.now = now
            assert (
                get(wanted(url), env={"THE_LOGIN": LOGIN}, monotonic=clock.monotonic, passes=passes)
                == b"data"
            )
    assert [path for path, _ in heard] == ["/login", "/data", "/data", "/login", "/data"]
    assert heard[1][1] == "Bearer t1"
    assert "t2" not in repr(passes)


def test_a_token_that_has_expired_early_is_replaced_once():
    """401 to a token that was kept: log in and ask again."""
    door = Door()
    passes: dict[str, secret.Pass] = {}
    with service(door.answer) as (url, heard):
        get(wanted(url), env={"THE_LOGIN": LOGIN}, passes=passes)
        door.good.clear()
        assert get(wanted(url), env={"THE_LOGIN": LOGIN}, passes=passes) == b"data"
    assert [path for path, _ in heard] == ["/login", "/data", "/data", "/login", "/data"]


def test_a_token_that_is_refused_at_once_is_no_reason_to_ask_for_ever():
    """One login, one question, and what to do."""
    with (
        service(lambda path, _: (200, b'{"token": "t"}') if path == "/login" else (401, b"")) as (url, heard),
        pytest.raises(GridError, match="HTTP 401; mend THE_LOGIN") as caught,
    ):
        get(wanted(url), env={"THE_LOGIN": LOGIN}, passes={})
    assert len(heard) == 2
    assert caught.value.is_refusal


def test_a_wrong_password_says_what_to_do_and_not_what_it_is():
    """The data are not asked for; a service that echoes what it was sent is not quoted."""

    def echo(_: str, authorization: str) -> tuple[int, bytes]:
        return 401, json.dumps({"error": f"bad {authorization} for me:wr0ng"}).encode()

    with service(echo) as (url, heard), pytest.raises(GridError, match="mend THE_LOGIN") as caught:
        get(wanted(url), env={"THE_LOGIN": "me:wr0ng"})
    assert len(heard) == 1
    assert "wr0ng" not in str(caught.value)
    assert heard[0][1].removeprefix("Basic ") not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"<html></html>", b"[]", b"{}", b'{"token": ""}', b'{"token": 7}', b'{"token": "a b"}']
)
def test_a_login_without_a_token_is_a_grid_error(body):
    """Whatever came instead is not said."""
    with (
        service(lambda *_: (200, body)) as (url, heard),
        pytest.raises(GridError, match="expected a token for name and password, got none"),
    ):
        get(wanted(url), env={"THE_LOGIN": LOGIN})
    assert len(heard) == 1


@pytest.mark.parametrize("text", ["nopassword", "name:", ":password"])
def test_a_login_is_a_name_and_a_password(text):
    """A variable that holds something else is refused before anybody is asked, unsaid."""
    with pytest.raises(GridError, match="THE_LOGIN: expected name:password") as caught:
        secret.of(wanted("http://127.0.0.1:1"), {"THE_LOGIN": text})
    assert text not in str(caught.value).replace("name:password", "")


def test_a_netrc_file_does_not_replace_the_token(tmp_path, monkeypatch):
    """The library would put the login of that host over the header that was given."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    door = Door()
    with service(door.answer) as (url, _):
        assert get(wanted(url), env={"THE_LOGIN": LOGIN}) == b"data"

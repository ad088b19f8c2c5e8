"""What a service must be told and nobody else: where it goes, and how it is kept out of all that is said.

A secret is read from the environment here and nowhere else. It goes into a header, or into the address where
a service takes it nowhere else; then too it is no part of what is logged, cached, shown or raised.
"""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from mlflow_carbon.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_carbon.grid.contract import Request

__all__ = ["NOTHING", "Pass", "Secret", "basic", "bearer", "of", "passed"]

_MARGIN = 0.8  # a pass is given up before its end, so that it does not run out on the way


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What goes along with a question.

    Attributes:
        headers: Headers that carry it.
        query: What is added to the address.
        words: What must not be said, in every spelling that a service could echo.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    words: tuple[str, ...] = field(default=(), repr=False)

    def unsaid(self, text: bytes) -> bytes:
        """A text without it, should the service quote it: what it says may end up in a note."""
        for word in sorted(filter(None, self.words), key=len, reverse=True):
            text = text.replace(word.encode(), b"<token>")
        return text

    @contextmanager
    def unlogged(self) -> Iterator[None]:
        """Keeps it out of the log of urllib3, which tells each address where somebody listens at DEBUG."""
        if not self.query:
            yield
            return
        logger, keeper = logging.getLogger("urllib3.connectionpool"), _Keeper(self)
        logger.addFilter(keeper)
        try:
            yield
        finally:
            logger.removeFilter(keeper)


NOTHING = Secret()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A token that was given for name and password.

    Attributes:
        token: The token.
        until_s: When to ask for another, by the clock of the caller.
    """

    token: str = field(repr=False)
    until_s: float


class _Keeper(logging.Filter):
    """Takes a secret out of what a logger is about to say."""

    def __init__(self, secret: Secret) -> None:
        super().__init__()
        self._secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._secret.unsaid(record.getMessage().encode()).decode(), ()
        return True


def of(request: Request, env: Mapping[str, str]) -> Secret:
    """What a request needs: nothing, or what the variable of its token holds.

    Raises:
        GridError: If the variable is empty, or cannot be sent. Its content is not said.
    """
    token = request.token
    if token is None:
        return NOTHING
    text = env.get(token.variable, "").strip()
    if not text:
        raise GridError(f"{request.url}: a token is needed; {request.remedy or f'set {token.variable}'}")
    if token.login is not None:
        return basic(text, token.variable)
    if not (text.isascii() and text.isprintable()):
        raise GridError(f"{token.variable}: expected plain letters and digits, got others")
    return Secret(
        headers={token.header: text} if token.header else {},
        query={token.parameter: text} if token.parameter else {},
        words=(text, quote(text, safe=""), quote_plus(text)),
    )


def basic(text: str, variable: str) -> Secret:
    """Name and password for HTTP basic authentication.

    Raises:
        GridError: If there is no name or no password.
    """
    name, _, password = text.partition(":")
    if not (name and password):
        raise GridError(f"{variable}: expected name:password, got something else")
    coded = b64encode(text.encode()).decode()
    return Secret(headers={"Authorization": f"Basic {coded}"}, words=(coded, text, password))


def bearer(token: str) -> Secret:
    """A token that was given for name and password."""
    return Secret(headers={"Authorization": f"Bearer {token}"}, words=(token,))


def passed(body: bytes, request: Request, now_s: float) -> Pass:
    """The token in the answer to a login.

    Raises:
        GridError: If there is none that can be sent. What was there is not said.
    """
    login = request.token.login if request.token else None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    token = content.get(login.key) if isinstance(content, dict) and login else None
    if login is None or not isinstance(token, str) or not token or not _is_plain(token):
        raise GridError(f"{request.url}: expected a token for name and password, got none")
    return Pass(token=token, until_s=now_s + login.lasts_s * _MARGIN)


def _is_plain(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token

"""What a source of intensity is. A live one builds requests and reads answers; it opens no connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlflow_carbon.core.carbon import IntensitySlot

__all__ = [
    "FORECAST",
    "HISTORY",
    "NOW",
    "Answer",
    "GridProvider",
    "LocalSource",
    "Login",
    "Request",
    "Token",
    "Window",
]

NOW, HISTORY, FORECAST = "now", "history", "forecast"
"""The kinds of question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A half-open span of UTC time, in seconds since the epoch."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where name and password become a token for a while.

    Attributes:
        url: Address that takes them (HTTP basic) and answers a JSON object.
        key: Where the token is in that object.
        lasts_s: How long it is good, in seconds.
    """

    url: str
    key: str
    lasts_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Where a secret is and where it goes; the secret itself is known to the network alone.

    Attributes:
        variable: Environment variable that holds it; with a login, `name:password`.
        header: Header that carries it.
        parameter: Query parameter that carries it, where the service takes no header.
        login: How to get a token for name and password; it goes into the header `Authorization`.
    """

    variable: str
    header: str = ""
    parameter: str = ""
    login: Login | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a service. Nothing in it is secret, so it may be logged.

    Attributes:
        url: The address; the same for all of a slot, so that it names what was asked.
        what: `now`, `history` or `forecast`.
        place: What is asked about, in our names; keys the cache.
        token: The secret that must come along.
        remedy: What to do where the service refuses.
    """

    url: str
    what: str
    place: str
    token: Token | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one answer says.

    Attributes:
        slots: Sorted, without overlap, of the provider's slot length.
        note: What a reader must know about them.
    """

    slots: tuple[IntensitySlot, ...]
    note: str = ""


class Source(Protocol):
    """What every source says of itself."""

    @property
    def name(self) -> str:
        """Who says so, for labels and for the cache."""

    @property
    def slot_s(self) -> int:
        """Native slot length in seconds; divides a day."""

    @property
    def dataset(self) -> str:
        """What its figures are, in a few words."""

    @property
    def scope(self) -> str:
        """`direct`, `life cycle` or `not stated`."""

    @property
    def signal(self) -> str:
        """`average` or `marginal`."""


class GridProvider(Source, Protocol):
    """A live source of intensity."""

    @property
    def history_s(self) -> int:
        """How far back it can be asked at little cost, in seconds."""

    @property
    def variable(self) -> str:
        """Environment variable that must hold a token or a login; empty where none is needed."""

    def knows(self, zone_id: str) -> bool:
        """Whether it has figures of this zone."""

    def request(self, place: str, window: Window, now_s: float) -> tuple[Request, ...]:
        """Questions that together cover the window as far as the service can, the most needed first.

        Args:
            place: A zone, or `<zone>:<argument>` where the setting `grid` has one.
            window: Time to cover.
            now_s: UTC time: what lies after it must be forecast.
        """

    def parse(self, body: bytes, request: Request) -> Answer:
        """Read an answer; raises `GridError` if it holds no usable slot."""


class LocalSource(Source, Protocol):
    """A source that asks nobody."""

    def slots(self, zone_id: str, window: Window, now_s: float) -> tuple[IntensitySlot, ...]:
        """Slots that overlap the window; raises `GridError` if there are none."""

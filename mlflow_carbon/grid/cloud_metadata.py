"""The metadata services of AWS, Google Cloud and Azure: in which region is this machine? Only when asked for.

All three live at one link-local address, so all are asked at once and the whole takes half a second at most.
No proxy, no redirect, no name lookup, and nothing about the machine is sent. What is no region of the
table is not believed: other clouds imitate the address. Shapes are those of the providers' documents:
IMDSv2 with its session token, `instance/zone` with the flavour header, `compute/location` as text.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from queue import Empty, Queue
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlflow_carbon.grid.regions import Region, known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ADDRESS", "BUDGET_S", "addresses", "ask"]

ADDRESS = "http://169.254.169.254"
"""Where all three clouds answer; link-local, so that it never leaves the host."""

BUDGET_S = 0.5
"""Longest duration of the question, all services together, in seconds."""

ORIGIN = "metadata"
_MAX_BYTES = 512
_OK = 200


@dataclass(slots=True)
class _Line:
    """One connection to one service, which whoever waits may cut."""

    address: str
    budget_s: float
    _open: list[socket.socket] = field(default_factory=list)
    _is_cut: bool = False

    def say(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """Text and headers of a good, small answer.

        Raises:
            OSError: If there is none.
            HTTPException: If it is no HTTP.
            ValueError: If it is refused, too large or no plain text.
        """
        parts = urlsplit(self.address)
        with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=self.budget_s)) as connection:
            connection.connect()
            self._open.append(connection.sock)  # the connection forgets it before the answer is read
            if self._is_cut:
                raise TimeoutError(self.address)
            connection.request(method, path, headers={**headers, "Connection": "close"})
            with connection.getresponse() as answer:
                body = answer.read(_MAX_BYTES + 1)
        if answer.status != _OK or len(body) > _MAX_BYTES:
            raise ValueError(f"{self.address}{path}: HTTP {answer.status}, {len(body)} bytes")
        return body.decode("ascii").strip(), dict(answer.headers)

    def cut(self) -> None:
        """End what is under way, also an answer that drips, and let nothing new begin."""
        self._is_cut = True
        for connected in list(self._open):
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


def addresses(env: Mapping[str, str]) -> dict[str, str]:
    """Address of each service, as the providers' own libraries would have it.

    `AWS_EC2_METADATA_SERVICE_ENDPOINT` and `GCE_METADATA_HOST` move one, `AWS_EC2_METADATA_DISABLED=true`
    leaves one out.
    """
    found = {
        "aws": env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/") or ADDRESS,
        "gcp": f"http://{env['GCE_METADATA_HOST']}" if env.get("GCE_METADATA_HOST") else ADDRESS,
        "azure": ADDRESS,
    }
    if env.get("AWS_EC2_METADATA_DISABLED", "").strip().lower() == "true":
        del found["aws"]
    return {provider: address for provider, address in found.items() if address.startswith("http://")}


def ask(
    at: Mapping[str, str],
    *,
    budget_s: float = BUDGET_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> Region | None:
    """The region that a metadata service names, within the budget; None without a believable answer.

    Args:
        at: Address of each service by provider, see `addresses`.
        budget_s: Longest duration in seconds, by the clock that follows.
        monotonic: That clock.
    """
    deadline = monotonic() + budget_s
    heard: Queue[Region | None] = Queue()
    lines = {provider: _Line(address, budget_s) for provider, address in at.items()}
    for provider, line in lines.items():
        threading.Thread(
            target=_listen, args=(provider, line, heard), name="mlflow-carbon-metadata", daemon=True
        ).start()
    found = None
    with suppress(Empty):
        for _ in lines:
            found = heard.get(timeout=max(0.0, deadline - monotonic()))
            if found is not None:
                break
    for line in lines.values():
        line.cut()
    return found


def _listen(provider: str, line: _Line, heard: Queue[Region | None]) -> None:
    region = None
    with suppress(OSError, HTTPException, ValueError):
        name = known(provider, _ASK[provider](line))
        region = Region(provider=provider, name=name, origin=ORIGIN, is_proven=True) if name else None
    heard.put(region)


def _aws(line: _Line) -> str:
    token, _ = line.say("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    if not token.isprintable():
        raise ValueError("expected a token of one line")
    name, _ = line.say("GET", "/latest/meta-data/placement/region", {"X-aws-ec2-metadata-token": token})
    return name


def _gcp(line: _Line) -> str:
    text, headers = line.say("GET", "/computeMetadata/v1/instance/zone", {"Metadata-Flavor": "Google"})
    if headers.get("Metadata-Flavor") != "Google":
        raise ValueError("expected the header Metadata-Flavor: Google")
    # projects/123/zones/us-central1-a; the serverless runtimes number their zones: us-central1-1.
    return text.rpartition("/zones/")[2].rpartition("-")[0]


def _azure(line: _Line) -> str:
    path = "/metadata/instance/compute/location?api-version=2021-02-01&format=text"
    return line.say("GET", path, {"Metadata": "true"})[0]


_ASK: Mapping[str, Callable[[_Line], str]] = {"aws": _aws, "gcp": _gcp, "azure": _azure}

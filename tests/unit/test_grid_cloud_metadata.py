"""The metadata services, played on the loopback as their documents show them; none was asked in a real cloud."""

from __future__ import annotations

import threading
import time

import pytest

from mlflow_carbon import assembly
from mlflow_carbon.grid import cloud_metadata
from mlflow_carbon.grid.cloud_metadata import ADDRESS, addresses, ask
from mlflow_carbon.settings import Settings
from tests.loopback import Quiet, serving
from tests.servers import free_port

TOKEN = "AQAEAtoken=="  # noqa: S105 - opens nothing


class Cloud:
    """One cloud's service, or one fault for every question; remembers what it was asked."""

    def __init__(self) -> None:
        self.provider = "aws"
        self.region = "eu-west-2"
        self.fault: tuple[int, dict[str, str], bytes] | None = None
        self.asked: list[str] = []
        self.released = threading.Event()
        self.drips = self.hangs = False

    def answer(self, method: str, path: str, headers) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.asked.append(f"{method} {path}")
        if self.hangs:
            self.released.wait(10)
        if self.fault is not None:
            return self.fault
        question = (self.provider, method, path)
        if question == ("aws", "PUT", "/latest/api/token"):
            assert headers["X-aws-ec2-metadata-token-ttl-seconds"] == "60"
            return 200, {}, TOKEN.encode()
        if question == ("aws", "GET", "/latest/meta-data/placement/region"):
            is_let_in = headers.get("X-aws-ec2-metadata-token") == TOKEN
            return (200, {}, self.region.encode()) if is_let_in else (401, {}, b"")
        if question == ("gcp", "GET", "/computeMetadata/v1/instance/zone"):
            assert headers["Metadata-Flavor"] == "Google"
            zone = f"projects/1234567/zones/{self.region}".encode()
            return 200, {"Metadata-Flavor": "Google"}, zone
        location = "/metadata/instance/compute/location?api-version=2021-02-01&format=text"
        if question == ("azure", "GET", location) and headers.get("Metadata") == "true":
            return 200, {}, self.region.encode()
        return 404, {}, b"<html><title>Not found</title></html>"


@pytest.fixture
def served():
    """A cloud on the loopback, and its address for each service."""
    cloud = Cloud()

    class Handler(Quiet):
        def _answer(self):
            status, headers, content = cloud.answer(self.command, self.path, self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if cloud.drips:
                while not cloud.released.wait(0.02):
                    self.wfile.write(b"e")
                    self.wfile.flush()
            self.wfile.write(content)

        do_GET = do_PUT = _answer  # noqa: N815 - names of the base class

    with serving(Handler) as url:
        yield cloud, dict.fromkeys(("aws", "gcp", "azure"), url)
        cloud.released.set()


@pytest.mark.parametrize(
    ("provider", "said", "name", "zone"),
    [
        ("aws", "eu-west-2", "eu-west-2", "GB"),
        ("gcp", "us-central1-a", "us-central1", "US-IA"),
        ("gcp", "europe-west9-1", "europe-west9", "FR"),
        ("azure", "westeurope", "westeurope", "NL"),
    ],
)
def test_each_cloud_tells_its_region(served, provider, said, name, zone):
    """With token, flavour or header as documented; the region is proven and has its zone."""
    cloud, at = served
    cloud.provider, cloud.region = provider, said
    found = ask(at, budget_s=5)
    assert found is not None
    assert (found.provider, found.name, found.zone, found.origin) == (provider, name, zone, "metadata")
    assert found.is_proven


@pytest.mark.parametrize(
    "fault",
    [
        (200, {}, b"<!doctype html><html>log in to the hotel</html>"),
        (404, {}, b""),
        (401, {}, b""),
        (500, {}, b"oops"),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
        (200, {}, b"x" * 1_000_000),
        (200, {}, b""),
        (200, {}, b"\xff\xfe\x00\xc3"),
        (200, {}, b"mars-north-1"),
        (200, {}, b"token\r\nX-Injected: 1"),
        (200, {"Metadata-Flavor": "Google"}, b"projects/1/zones/"),
    ],
    ids=["html", "404", "401", "500", "redirect", "huge", "empty", "bytes", "unknown", "lines", "no zone"],
)
def test_whatever_else_answers_is_no_cloud(served, fault):
    """Other clouds, captive portals and proxies are not believed, and nothing is raised."""
    cloud, at = served
    cloud.fault = fault
    assert ask(at, budget_s=5) is None


def test_a_redirect_is_not_followed(served):
    """A service that sends elsewhere is asked nothing more."""
    cloud, at = served
    cloud.fault = (302, {"Location": f"{at['aws']}/elsewhere"}, b"")
    assert ask(at, budget_s=5) is None
    assert not [path for path in cloud.asked if "elsewhere" in path]


def test_google_must_say_its_flavour(served):
    """Without the header that only Google sends, the same words are not believed."""
    cloud, at = served
    cloud.fault = (200, {}, b"projects/1/zones/us-central1-a")
    assert ask({"gcp": at["gcp"]}, budget_s=5) is None


@pytest.mark.parametrize("way", ["hangs", "drips"])
def test_silence_and_drops_end_with_the_budget(served, way):
    """All services together take half a second, whatever they do."""
    cloud, at = served
    setattr(cloud, way, True)
    begin = time.monotonic()
    assert ask(at) is None
    assert time.monotonic() - begin < cloud_metadata.BUDGET_S + 0.5  # two busy cores


def test_the_threads_end_with_the_question(served):
    """What drips is cut off: no thread stays behind."""
    cloud, at = served
    cloud.drips = True
    ask(at, budget_s=0.1)
    for thread in threading.enumerate():
        if thread.name == "mlflow-carbon-metadata":
            thread.join(5)
            assert not thread.is_alive()


def test_nobody_there_is_no_cloud():
    """A refused connection costs nothing and raises nothing."""
    address = f"http://127.0.0.1:{free_port()}"
    assert ask(dict.fromkeys(("aws", "gcp", "azure"), address), budget_s=5) is None
    assert ask({}) is None


def test_a_proxy_is_not_asked(served, monkeypatch):
    """Link-local questions go to the host itself, whatever proxy the environment names."""
    cloud, at = served
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert ask(at, budget_s=5) is not None
    assert "PUT /latest/api/token" in cloud.asked


def test_the_addresses_are_those_of_the_providers_libraries():
    """One address for all; two variables move a service and one leaves AWS out."""
    assert addresses({}) == dict.fromkeys(("aws", "gcp", "azure"), ADDRESS)
    moved = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://[fd00:ec2::254]/", "GCE_METADATA_HOST": "[::1]:8"}
    assert addresses(moved) == {"aws": "http://[fd00:ec2::254]", "gcp": "http://[::1]:8", "azure": ADDRESS}
    assert "aws" not in addresses({"AWS_EC2_METADATA_DISABLED": "true"})
    assert "aws" not in addresses({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "file:///etc/passwd"})


def test_a_run_in_a_cloud_is_costed_with_its_zone_and_pue(served, monkeypatch, tmp_path):
    """Asked once in a process, and only with the setting; region, PUE and their sources reach the costing."""
    cloud, at = served
    monkeypatch.setenv("MLFLOW_CARBON_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", at["aws"])
    monkeypatch.setenv("GCE_METADATA_HOST", at["gcp"].removeprefix("http://"))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    without = assembly.costing(Settings(grid="annual"), 0, 1800)
    assert (cloud.asked, without.intensity.zone, without.pue_source) == ([], "US-VA", "default")
    for _ in range(2):
        costing = assembly.costing(Settings(grid="annual", cloud_metadata=True), 0, 1800)
    assert cloud.asked.count("PUT /latest/api/token") == 1
    assert (costing.intensity.zone, costing.zone_source) == ("GB", "cloud:metadata")
    assert (costing.pue_ratio, costing.pue_source) == (1.23, "aws 2025, eu-west-2")
    assert costing.site is not None
    assert (costing.site.region, costing.site.origin) == ("eu-west-2", "metadata")

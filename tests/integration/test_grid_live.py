"""The GB chain through a real socket: a service on the loopback, the real GET, the cache on disk."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlflow_carbon.grid import Access, Window, annual, intensity
from mlflow_carbon.grid.fetch import Cache, get
from mlflow_carbon.grid.gb import CarbonIntensityGB
from mlflow_carbon.grid.zones import Zone
from mlflow_carbon.settings import Settings
from tests.grid_payloads import body

NOON = int(datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp())


@pytest.fixture
def service():
    """Answers every GET with the payload of a day and remembers the paths."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body("gb_day"))

        def log_message(self, *args):
            """Keep quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", paths
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_window_is_fetched_costed_and_kept(service, tmp_path):
    """One request for the window; the service gone, the cache answers with a note."""
    url, paths = service
    gb = CarbonIntensityGB(base_url=url)
    access = Access(
        cache=Cache(folder=tmp_path),
        fetch=lambda address: get(address, budget_s=1),
        providers={"gb": gb},
        tables=annual.installed(),
    )
    zone = Zone(id="GB", source="argument")
    window = Window(start_s=NOON + 60, end_s=NOON + 3000)
    live = intensity(Settings(), zone, window=window, access=access, now_s=NOON + 3000)
    assert paths == ["/intensity/2026-03-02T12:01Z/2026-03-02T13:01Z"]
    assert [live.at(NOON + t).gco2e_per_kwh for t in (100, 1900, 3700)] == [148, 151, 140]

    gone = Access(
        cache=access.cache,
        fetch=lambda address: get(address, budget_s=0.2),
        providers={"gb": CarbonIntensityGB(base_url="http://127.0.0.1:1")},
        tables=access.tables,
    )
    stale = intensity(Settings(), zone, window=window, access=gone, now_s=NOON + 9000)
    assert [stale.at(NOON + t).gco2e_per_kwh for t in (100, 1900)] == [148, 151]
    assert "earlier answers used" in stale.note

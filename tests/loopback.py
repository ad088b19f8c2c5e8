"""A small HTTP server on the loopback: tests say what it answers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message

__all__ = ["Quiet", "loopback", "serving"]


class Quiet(BaseHTTPRequestHandler):
    """Logs nothing, and lets go of whoever has hung up."""

    def log_message(self, *args: object) -> None:
        """Keep quiet."""

    def handle(self) -> None:
        """Whoever asked may be gone."""
        try:
            super().handle()
        except OSError:
            return


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server with a handler; yields its address. Requests that still hang do not hold up the end."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@contextmanager
def loopback(answer: Callable[[str, Message], tuple[int, Mapping[str, str], bytes]]) -> Iterator[str]:
    """A server that answers each GET by its path and headers: status, headers, body. Yields its address."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            status, headers, body = answer(self.path, self.headers)
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        yield url

"""A vendor whose clock is wrong in one place alone: a relay that passes on everything and writes another `Date`."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import TYPE_CHECKING

import urllib3

if TYPE_CHECKING:
    from collections.abc import Iterator

HOPS = ("connection", "content-length", "date", "keep-alive", "transfer-encoding")


class WrongClock:
    """The relay.

    Attributes:
        ahead: seconds that `Date` is ahead of this machine's clock; None leaves it out.
    """

    def __init__(self, vendor: str) -> None:
        self.ahead: float | None = 0.0
        http = urllib3.PoolManager(retries=False)
        base = vendor.removesuffix("/api/v2")
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                told = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                answer = http.request(self.command, base + self.path, headers=told, body=body or None)
                # Unlike `send_response`, this writes no `Date` of its own.
                self.send_response_only(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in HOPS:
                        self.send_header(name, value)
                if relay.ahead is not None:
                    self.send_header("Date", formatdate(time() + relay.ahead, usegmt=True))
                self.send_header("Content-Length", str(len(answer.data)))
                self.end_headers()
                self.wfile.write(answer.data)

            do_POST = do_DELETE = do_GET  # noqa: N815 - the library's names

            def log_message(self, *words: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v2"


@contextmanager
def wrong_clock(vendor: str, ahead: float | None) -> Iterator[WrongClock]:
    """A running relay to a vendor's API that ends with the block."""
    relay = WrongClock(vendor)
    relay.ahead = ahead
    thread = threading.Thread(target=relay.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.server.shutdown()
        relay.server.server_close()
        thread.join()

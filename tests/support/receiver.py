"""A receiver of webhooks that keeps what it is sent and answers what a test wants."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


class Received(NamedTuple):
    """One delivery, as it came in; `at` is in monotonic seconds."""

    body: bytes
    signature: str
    timestamp: str
    at: float

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """Whether the signature is right: computed here anew, with none of our own code."""
        signed = self.timestamp.encode() + b"." + self.body
        return self.signature == "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


class _Server(ThreadingHTTPServer):
    # The library's 5 refuses connections of a sender that opens 16 at once.
    request_queue_size = 128


class Receiver(AbstractContextManager["Receiver"]):
    """Listens on a free port of this machine.

    Args:
        status: gives the answer to the delivery of this number, counted from 1.
    """

    def __init__(self, status: Callable[[int], int] = lambda number: 202) -> None:
        self.received: list[Received] = []
        self._status = status
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver._take(self.headers, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Says nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/webhooks/headshotpro"

    def of(self, model_id: str) -> list[str]:
        """The names of the events that came about a model, in the order of arrival."""
        return [got.document["event"] for got in list(self.received) if got.document["object"]["_id"] == model_id]

    def _take(self, headers: Any, body: bytes) -> int:
        got = Received(body, headers["X-HeadshotPro-Signature"], headers["X-HeadshotPro-Timestamp"], time.monotonic())
        with self._lock:
            self.received.append(got)
            return self._status(len(self.received))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""Clients that send one request again and again without a pause, and one that delivers beside them."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.processes import TEST_TIMEOUT_SECONDS
from tests.support.system import WEBHOOK_PATH, event_body, new_id, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

# One piece that a flooding client sends.
BLOB_BYTES = 64 * 1024


def request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
    """The bytes of a request."""
    given = {"Host": "mirror", **(headers or {})}
    if body is not None:
        given["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + (body or b"")


def delivery(*, last: bool = False) -> bytes:
    """The bytes of a signed delivery; the connection ends after the last one."""
    body = event_body(new_id())
    return request("POST", WEBHOOK_PATH, {**signed(body), **({"Connection": "close"} if last else {})}, body)


class Flood:
    """Sockets that send a request again and again, and connect anew when they are closed.

    Attributes:
        responses: how many came back.

    Args:
        port: where web listens on this machine.
        blob: the request.
        sockets: how many send it.
    """

    def __init__(self, port: int, blob: bytes, sockets: int = 4) -> None:
        self.responses = 0
        self._port = port
        self._blob = blob * max(1, BLOB_BYTES // len(blob))
        self._sockets = sockets
        self._enough = threading.Event()
        # How much of the blob each has sent.
        self._sent: dict[socket.socket, int] = {}
        self._selector = selectors.DefaultSelector()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Flood during the block."""
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()

    def _work(self) -> None:
        for _ in range(self._sockets):
            self._connect()
        while not self._enough.is_set():
            for key, events in self._selector.select(0.1):
                client: socket.socket = key.fileobj  # type: ignore[assignment]
                try:
                    self._use(client, events)
                except BlockingIOError:
                    continue
                except OSError:
                    self._close(client)
                    self._connect()
        for client in list(self._sent):
            self._close(client)

    def _use(self, client: socket.socket, events: int) -> None:
        if events & selectors.EVENT_READ:
            if not (received := client.recv(256 * 1024)):
                raise ConnectionResetError
            self.responses += received.count(b"HTTP/1.1 ")
        if events & selectors.EVENT_WRITE:
            sent = self._sent[client] + client.send(self._blob[self._sent[client] :])
            self._sent[client] = sent % len(self._blob)

    def _connect(self) -> None:
        client = socket.create_connection(("127.0.0.1", self._port), TEST_TIMEOUT_SECONDS)
        client.setblocking(False)
        self._sent[client] = 0
        self._selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _close(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._sent[client]
        client.close()


def deliver(port: int) -> float:
    """Deliver once, on a connection of its own: the seconds until the 202 was here."""
    before = time.monotonic()
    response = exchange(port, delivery(last=True))
    assert response.startswith(b"HTTP/1.1 202 "), response
    return time.monotonic() - before


def exchange(port: int, sent: bytes) -> bytes:
    """Send something on a connection of its own: all that comes back until it is closed."""
    with socket.create_connection(("127.0.0.1", port), TEST_TIMEOUT_SECONDS) as client:
        client.sendall(sent)
        return until_closed(client)


def until_closed(client: socket.socket) -> bytes:
    """All that still comes on a connection."""
    client.settimeout(TEST_TIMEOUT_SECONDS)
    return b"".join(iter(lambda: client.recv(64 * 1024), b""))


def slowest_delivery(port: int, seconds: float) -> float:
    """Deliver again and again for some seconds: the longest that one took."""
    took = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        took.append(deliver(port))
        time.sleep(0.02)
    return max(took)

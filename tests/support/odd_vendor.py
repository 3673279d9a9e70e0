"""A server for what the sandbox cannot do: it answers each request with the next raw answer of a script, odd or not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from typing import Any

from service.upstream.budget import Priority
from service.upstream.client import UpstreamClient

KEY = "hsp_live_secret"
MODEL = {"success": True, "model": {"id": "m1", "status": "active"}}

RawResponse = bytes | Callable[[socket.socket], None]


def http(status: int, body: Any = b"", **headers: str | None) -> bytes:
    """A whole answer; `X_Name=…` sets a header, None leaves one out; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Date": formatdate(usegmt=True), "Content-Length": str(len(content)), "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status} Words\r\n{head}\r\n".encode() + content


def refusal(status: int, code: str = "", words: str = "No.", **headers: str | None) -> bytes:
    """The vendor's error body."""
    return http(status, {"success": False, "error": words, "code": code}, **headers)


def repeated(begin: bytes, piece: bytes, pause: float = 0.0) -> RawResponse:
    """An answer that begins and then repeats a piece without end."""

    def send(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(begin)
            while True:
                connection.sendall(piece)
                time.sleep(pause)

    return send


class OddVendor:
    """Answers in order, the last one for ever.

    Attributes:
        url: base of its API.
        requests: the requests so far, whole, as they came.
    """

    def __init__(self, *answers: RawResponse) -> None:
        self._is_ready = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api/v2"
        self.requests: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for connection in self._open:
            connection.close()

    def hang(self, connection: socket.socket) -> None:
        """An answer that never comes."""

    def drip(self, connection: socket.socket) -> None:
        """An answer that goes on for ever, a little at a time."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not self._closing.wait(0.1):
            connection.sendall(b" ")

    def slow(self, answer: bytes, seconds: float) -> RawResponse:
        """An answer that comes late."""

        def send(connection: socket.socket) -> None:
            self._closing.wait(seconds)
            connection.sendall(answer)
            connection.close()

        return send

    def script(self, *answers: RawResponse) -> None:
        """Other answers from now on."""
        self._is_ready = list(answers)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            with suppress(OSError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        request = _read_request(connection)
        if " HTTP/1." not in request.partition("\r\n")[0]:
            # A client of another test, looking for a server that had this port before.
            connection.close()
            return
        self.requests.append(request)
        answer = self._is_ready.pop(0) if len(self._is_ready) > 1 else self._is_ready[0]
        if callable(answer):
            answer(connection)
        else:
            connection.sendall(answer)
            connection.close()


def _read_request(connection: socket.socket) -> str:
    received = b""
    while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length and (piece := connection.recv(65536)):
        body += piece
    return (head + b"\r\n\r\n" + body).decode("latin-1")


@contextmanager
def odd_vendor(*answers: RawResponse) -> Iterator[OddVendor]:
    """A running server that ends with the block."""
    vendor = OddVendor(*answers)
    vendor.start()
    try:
        yield vendor
    finally:
        vendor.stop()


class RecordedPauses(list[float]):
    """Stands in for sleeping where a test wants to know how long, and not to wait."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client_of(vendor: OddVendor, pause: Any = None, *, response_timeout: float = 10.0, **more: Any) -> UpstreamClient:
    budget = more.pop("budget", None)
    return UpstreamClient(
        vendor.url,
        KEY,
        budget,
        pause=RecordedPauses() if pause is None else pause,
        response_timeout=response_timeout,
        **more,
    )


def get(client: UpstreamClient, max_wait: float | None = None) -> Any:
    return client.get_model("m1", priority=Priority.REFETCH, max_wait=max_wait)

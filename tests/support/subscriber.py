"""A service that is sent changes: it checks each signature, keeps what it is sent, and misbehaves as a test wants."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from standardwebhooks import Webhook

from tests.support.system import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Row = dict[str, Any]


class Delivered(NamedTuple):
    """A request, as it came in; `document` is its body, and `at` is in monotonic seconds."""

    message_id: str
    headers: Mapping[str, str]
    body: bytes
    document: Any
    at: float

    @property
    def changes(self) -> list[Row]:
        """The changes that it carries; a test request carries none."""
        data = self.document.get("data")
        return list(data["changes"]) if data and "changes" in data else [data] if data else []


# How it responds: a status, or what it does with the connection.
Behaviour = int | str
HANG, RESET, SLOW = "hang", "reset", "slow"


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, *_arguments: Any) -> None:
        """A connection that the other side closed."""


class Subscriber(AbstractContextManager["Subscriber"]):
    """Listens on a free port of this machine.

    Args:
        behave: how it responds to a request, by its number from 1 on and its body.
    """

    def __init__(self, behave: Callable[[int, Delivered], Behaviour] = lambda number, request: 204) -> None:
        self.requests: list[Delivered] = []
        self.taken: list[Delivered] = []
        self.seen: set[int] = set()
        self.secrets: list[str] = []
        self.behave = behave
        self.released = threading.Event()
        self._lock = threading.Lock()
        subscriber = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                subscriber._respond(self, body)

            def log_message(self, *_words: object) -> None:
                """Says nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    def __exit__(self, *_error: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def change_ids(self) -> list[int]:
        """The changes that it took, in the order of arrival, duplicates included."""
        with self._lock:
            return [change["id"] for request in self.taken for change in request.changes]

    def by_model(self) -> dict[str, list[int]]:
        """The changes of each model in the order of their first arrival."""
        found: dict[str, list[int]] = {}
        with self._lock:
            taken = list(self.taken)
        for request in taken:
            for change in request.changes:
                of_model = found.setdefault(change["model_id"], [])
                if change["id"] not in of_model:
                    of_model.append(change["id"])
        return found

    def _respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = dict(handler.headers)
        request = Delivered(headers["webhook-id"], headers, body, json.loads(body), time.monotonic())
        for secret in self.secrets:
            Webhook(secret).verify(body, headers)
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        behaviour = self.behave(number, request)
        if behaviour == HANG:
            self.released.wait(60)
            return
        if behaviour == RESET:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            handler.connection.close()
            return
        status = 200 if behaviour == SLOW else int(behaviour)
        if 200 <= status < 300:
            with self._lock:
                self.taken.append(request)
                self.seen.update(change["id"] for change in request.changes)
        with suppress(OSError):
            handler.send_response(status)
            handler.send_header("Location", self.url)
            handler.send_header("Content-Length", "0" if behaviour != SLOW else "100000")
            handler.end_headers()
            if behaviour == SLOW:
                # A byte now and then, for longer than any deadline.
                while not self.released.wait(0.2):
                    handler.wfile.write(b" ")


def admitted(url: str, statuses: list[str] | None = None) -> dict[str, list[int]]:
    """The changes of each model that a filter of statuses admits, read from the feed."""
    query = """
        select id, model_id from headshotpro.model_changes
        where (%s::text[] is null or to_status = any(%s)) order by id
    """
    found: dict[str, list[int]] = {}
    for row in rows(url, query, statuses, statuses):
        found.setdefault(row["model_id"], []).append(row["id"])
    return found

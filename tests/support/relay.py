"""A relay between the vendor's sender and the endpoint that remembers what was acknowledged: the vendor only counts."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec
import urllib3

from service.upstream.payloads import decode_webhook, event_id_of
from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER
from tests.support.system import WEBHOOK_PATH

PASSED_ON = (SIGNATURE_HEADER, TIMESTAMP_HEADER, "Content-Type")
TIMEOUT = urllib3.Timeout(connect=2, read=8)


class _Server(ThreadingHTTPServer):
    # The library's 5 refuses connections of a sender that opens 16 at once.
    request_queue_size = 128


class Relay(AbstractContextManager["Relay"]):
    """Passes deliveries on to an endpoint, and its answers back; where one does not answer, to the next one.

    Attributes:
        tried: ids of the events that were passed on, whatever came of it.
        acknowledged: ids of those that the endpoint answered with a 2xx, and how often.
        endpoints: the one that is used first.
    """

    def __init__(self, *endpoints: str) -> None:
        self.tried: set[str] = set()
        self.acknowledged: Counter[str] = Counter()
        self.endpoints = list(endpoints)
        # An endpoint that is killed again and again needs a new connection for each request.
        self._http = urllib3.PoolManager(retries=False, timeout=TIMEOUT, maxsize=16)
        self._lock = threading.Lock()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(relay._pass_on(self.headers, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Says nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{WEBHOOK_PATH}"

    def _pass_on(self, headers: Any, body: bytes) -> int:
        """The endpoint's status, or 502 where it gave none."""
        event_id = event_id_of(decode_webhook(body).value, int(headers[TIMESTAMP_HEADER]), body)
        with self._lock:
            self.tried.add(event_id)
        sent = {name: headers[name] for name in PASSED_ON} | {"Connection": "close"}
        answer = self._send(body, sent)
        if answer is None:
            return 502
        if 200 <= answer.status < 300:
            told = msgspec.json.decode(answer.data)["event"]
            assert told == event_id, (told, event_id)
            with self._lock:
                self.acknowledged[event_id] += 1
        return answer.status

    def _send(self, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse | None:
        """The answer of the first endpoint that gives one, which is asked first from then on."""
        for endpoint in tuple(self.endpoints):
            try:
                answer = self._http.request("POST", endpoint + WEBHOOK_PATH, body=body, headers=headers)
            except urllib3.exceptions.HTTPError:
                continue
            self.endpoints.sort(key=lambda other: other != endpoint)
            return answer
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

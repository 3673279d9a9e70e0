"""One request to a subscription's receiver, and what its response means."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from service import __version__
from service.http_client import HttpClient, RequestFailed
from service.subscriptions import addresses
from service.subscriptions.policy import REQUEST_SECONDS
from service.subscriptions.signing import signed_headers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.config import Settings

CONNECT_TIMEOUT_SECONDS = 5.0
# Only the status of a response is used. Up to this much of its body is read, so that its connection can be kept.
MAX_BODY_BYTES = 64 * 1024
MAX_ERROR_LENGTH = 200
GONE = 410


class SendOutcome(NamedTuple):
    """The result of one request.

    Attributes:
        status: HTTP status; None where there was no response.
        error: why it failed; empty where the receiver took it.
        retry_after: seconds that the receiver asks to wait; None where it asks for none.
    """

    status: int | None
    error: str = ""
    retry_after: float | None = None

    @property
    def taken(self) -> bool:
        """The receiver acknowledged it."""
        return not self.error

    @property
    def gone(self) -> bool:
        """The receiver wants no more requests."""
        return self.status == GONE


OUTCOMES = ("acknowledged", "redirect", "client_error", "server_error", "no_response")


def outcome_name(outcome: SendOutcome) -> str:
    """The one of `OUTCOMES` that a request had, for metrics."""
    if outcome.taken:
        return "acknowledged"
    return {3: "redirect", 4: "client_error", 5: "server_error"}.get((outcome.status or 0) // 100, "no_response")


class ReceiverClient:
    """Sends requests to receivers; a whole one may take `deadline` seconds. Safe to share between threads."""

    def __init__(self, settings: Settings, *, deadline: float = REQUEST_SECONDS) -> None:
        self._settings = settings
        self._deadline = deadline
        self._clients: dict[str | None, HttpClient] = {}
        self._turn = threading.Lock()

    def send(self, url: str, message_id: str, body: bytes, signing_secrets: Sequence[str]) -> SendOutcome:
        """Sign a request and send it once. Each failure is an outcome: without one its changes would stay in flight."""
        try:
            return self._send(url, message_id, body, signing_secrets)
        except RequestFailed as error:
            return SendOutcome(None, str(error)[:MAX_ERROR_LENGTH])
        except Exception as error:  # noqa: BLE001 - a URL or secret that a library refuses is a failure like any other
            return SendOutcome(None, f"not sent: {type(error).__name__}")

    def _send(self, url: str, message_id: str, body: bytes, signing_secrets: Sequence[str]) -> SendOutcome:
        proxy = self._settings.proxy_for(url)
        # A proxy resolves names itself, so only a host that is written as an address can be checked.
        refused = addresses.refusal_of_literal(urlsplit(url).hostname or "")
        if refused:
            return SendOutcome(None, f"refused: {refused}")
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"headshot-mirror/{__version__}",
            **signed_headers(message_id, datetime.now(UTC), body, signing_secrets),
        }
        response = self._client(proxy).send("POST", url, headers, body)
        return _outcome(response.status, response.headers)

    def close(self) -> None:
        """Close the idle connections."""
        for client in self._clients.values():
            client.close()

    def _client(self, proxy: str | None) -> HttpClient:
        with self._turn:
            if proxy not in self._clients:
                self._clients[proxy] = HttpClient(
                    deadline=self._deadline,
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                    max_body_bytes=MAX_BODY_BYTES,
                    proxy=proxy,
                    resolve=None if proxy else addresses.resolve,
                    cut_body=True,
                )
            return self._clients[proxy]


def _outcome(status: int, headers: Mapping[str, str]) -> SendOutcome:
    """Judge a response: 2xx acknowledges, and a redirect is a failure like any other status."""
    if 200 <= status < 300:
        return SendOutcome(status)
    if 300 <= status < 400:
        return SendOutcome(status, f"{status}: redirects are not followed")
    return SendOutcome(status, f"the receiver responded {status}", _seconds(headers.get("Retry-After")))


def _seconds(text: str | None) -> float | None:
    """The seconds of a `Retry-After`; a date is not obeyed."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else None

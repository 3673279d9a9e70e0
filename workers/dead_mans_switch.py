"""The dead man's switch: the clock that acts requests HEARTBEAT_URL once a minute while the mirror has no problem.

A service outside, such as healthchecks.io, notices when the requests stop: also when this machine, Postgres or the
clock itself is dead, about which no alert can be sent. The URL is a secret; it is never printed. It is no row of
`processes`: those are sent by `service.heartbeat`.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service import __version__
from service.http_client import HttpClient, RequestFailed
from service.status import StatusReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.config import Settings

log = structlog.get_logger(__name__)

EVERY_SECONDS = 60.0
# How often the mirror is checked until the next request is due, and after one that failed.
CHECK_SECONDS = 5.0
# The whole request, from the resolution of the name to the last byte of the response.
REQUEST_SECONDS = 5.0
LARGEST_BODY = 1024 * 1024
CLOSE_SECONDS = 1.0


class DeadMansSwitch:
    """The thread of one clock; without HEARTBEAT_URL it does nothing. Times are in seconds."""

    def __init__(self, settings: Settings, acting: Callable[[], bool]) -> None:
        self._settings = settings
        self._url = settings.heartbeat_url or ""
        self._acting = acting
        self._next = 0.0
        self._silent = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dead_mans_switch", daemon=True)

    def start(self) -> None:
        """Begin; nothing waits for the thread."""
        if self._url:
            self._thread.start()

    def close(self) -> None:
        """End; a request that hangs is left alone."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        reader = StatusReader(self._settings)
        outgoing = HttpClient(
            deadline=REQUEST_SECONDS,
            connect_timeout=REQUEST_SECONDS,
            max_body_bytes=LARGEST_BODY,
            proxy=self._settings.proxy_for(self._url),
        )
        while not self._stop.is_set():
            try:
                self._tick(reader, outgoing)
            except Exception as error:  # noqa: BLE001 - an ended thread would report a healthy mirror as dead for ever
                log.error("heartbeat_url.failed", error=type(error).__name__)
            self._stop.wait(CHECK_SECONDS)
        reader.close()

    def _tick(self, reader: StatusReader, outgoing: HttpClient) -> None:
        if monotonic() < self._next or not self._acting():
            return
        found = reader.read(figures=False).problems
        if bool(found) != self._silent:
            log.warning("heartbeat_url.suppressed", problems=[problem.code for problem in found])
        self._silent = bool(found)
        if not found and self._request(outgoing):
            self._next = monotonic() + EVERY_SECONDS

    def _request(self, outgoing: HttpClient) -> bool:
        """Request the URL: whether the response was a success. A redirect is none, and is not followed."""
        try:
            response = outgoing.send("GET", self._url, {"User-Agent": f"headshot-mirror/{__version__}"})
        except RequestFailed as error:
            # Its message may hold the URL.
            log.warning("heartbeat_url.failed", error="no response in time" if error.timed_out else "no response")
            return False
        if response.status >= 300:
            log.warning("heartbeat_url.failed", status=response.status)
        return response.status < 300

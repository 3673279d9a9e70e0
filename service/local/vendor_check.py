"""Tries the vendor's API when `up` starts: a wrong URL or key is on the screen before the next pull is due."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from service.diagnosis import check_upstream

if TYPE_CHECKING:
    from service.config import Settings


class VendorCheck:
    """One request to the upstream, in a thread: nothing waits for an upstream that does not respond."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: SimpleQueue[str] = SimpleQueue()
        self._thread = Thread(target=self._check, name="vendor-check", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the response is still awaited."""
        return self._thread.is_alive()

    def problems(self) -> list[str]:
        """Lines about what was found wrong since the last call."""
        found = []
        while True:
            try:
                found.append(self._found.get_nowait())
            except Empty:
                return found

    def _check(self) -> None:
        for finding in check_upstream(self._settings):
            if not finding.ok:
                self._found.put(f"{finding.check}: {finding.seen}")
                self._found.put(f"  → {finding.advice}")

"""Tries the vendor's API when `up` starts: a wrong URL or key is on the screen before the next pull is due."""

from __future__ import annotations

from queue import SimpleQueue
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
        Thread(target=self._check, name="vendor-check", daemon=True).start()

    def problems(self) -> list[str]:
        """Lines about what was found wrong since the last call."""
        return [self._found.get_nowait() for _ in range(self._found.qsize())]

    def _check(self) -> None:
        for finding in check_upstream(self._settings):
            if not finding.ok:
                self._found.put(f"{finding.check}: {finding.seen}")
                self._found.put(f"  → {finding.advice}")

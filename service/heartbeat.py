"""A process's heartbeat: a thread of its own renews the process's row in `processes`, and removes it at the end.

Nothing else of the process waits for that thread or for Postgres: it has its own connection, and is left alone when the
process has to end.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service import __version__
from service.errors import MirrorError
from service.storage import database, processes
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

log = structlog.get_logger(__name__)

WEB, WORKER, CLOCK = KINDS = ("web", "worker", "clock")

INTERVAL_SECONDS = 5.0
# A process that does not do its work yet, or again, is checked this often.
CHECK_SECONDS = 0.5
# Neither a connection nor a statement may take longer: then the next heartbeat tries again.
TIMEOUT_SECONDS = 2
# A process that stops waits this long for the removal of its row.
REMOVAL_SECONDS = 2.0


class Heartbeat:
    """One process's heartbeat.

    Args:
        url: of Postgres.
        kind: one of `KINDS`.
        name: the process's; see `process_identity.new_process_name`.
        alive: whether the process does its work; while it does not, its row grows old.
        ready: asked in the heartbeat's thread, with its engine: no heartbeat is sent while it is false.
        started: when the process started, by `time.monotonic`; now where it is None.
        remove: whether the row is this object's own to remove when it stops.
    """

    def __init__(
        self,
        url: str,
        kind: str,
        name: str,
        alive: Callable[[], bool] = lambda: True,
        *,
        ready: Callable[[Engine], bool] = lambda _engine: True,
        started: float | None = None,
        remove: bool = True,
    ) -> None:
        self._engine = database.connect(url, pool_size=1, overflow=0, connect_timeout=TIMEOUT_SECONDS)
        self._process = processes.ProcessRow(name, kind, socket.gethostname(), __version__)
        self._alive = alive
        self._ready = ready
        self._started = monotonic() if started is None else started
        self._remove = remove
        self._stop = threading.Event()
        self._has_row = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; nothing waits for the first heartbeat."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread remove the row and end; returns at once."""
        self._stop.set()

    def close(self, seconds: float = REMOVAL_SECONDS) -> None:
        """Remove the row, and wait for that no longer than some seconds: a row that stays grows old."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            alive = self._alive()
            if alive:
                self._try(self._beat)
            self._stop.wait(INTERVAL_SECONDS if alive else CHECK_SECONDS)
        if self._has_row and self._remove:
            self._try(self._remove_row)
        self._engine.dispose()

    def _try(self, step: Callable[[], None]) -> None:
        """Take a step, and report only the first of several failures in a row."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - one fault must not end the heartbeat of a process that lives
            if not self._failing:
                reason = str(error) if isinstance(error, MirrorError) else type(error).__name__
                log.warning("heartbeat.not_sent", reason=reason)
            self._failing = True
        else:
            self._failing = False

    def _beat(self) -> None:
        if not self._ready(self._engine):
            return
        with transaction(self._engine, TIMEOUT_SECONDS) as connection:
            processes.beat(connection, self._process, monotonic() - self._started)
        self._has_row = True

    def _remove_row(self) -> None:
        with transaction(self._engine, TIMEOUT_SECONDS) as connection:
            processes.remove(connection, self._process.name)


def remove_row(url: str, name: str) -> None:
    """Remove the row of a process that has ended, and wait for that no longer than some seconds."""

    def remove() -> None:
        engine = database.connect(url, pool_size=1, overflow=0, connect_timeout=TIMEOUT_SECONDS)
        with suppress(MirrorError), transaction(engine, TIMEOUT_SECONDS) as connection:
            processes.remove(connection, name)

    thread = threading.Thread(target=remove, name="heartbeat", daemon=True)
    thread.start()
    thread.join(REMOVAL_SECONDS)

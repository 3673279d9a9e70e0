"""web's heartbeat: one row for gunicorn's master and its workers, which each of the workers renews.

A worker checks the schema first: one that is older than the code ends web.

gunicorn's master may hold no connection that its workers would inherit, and a worker's heartbeat stops when its event
loop does. So the workers send it, under the master's name. A worker that stops leaves the row: web goes on with the
others, or with its successor. The master removes the row when all of them have ended.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

from service.errors import SchemaOutdated
from service.heartbeat import WEB, Heartbeat, remove_row
from service.process_identity import new_process_name
from service.storage.migrations import revision

if TYPE_CHECKING:
    from sqlalchemy import Engine


class WebHeartbeat:
    """The heartbeat of one web process; made by gunicorn's master before it forks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = new_process_name()
        self._master = os.getpid()
        self._started = monotonic()
        # One byte that all processes share: whether a worker found the schema outdated.
        self._is_outdated = mmap.mmap(-1, 1)

    def start_in_worker(self, worker: Any) -> None:
        """Start in a worker that has loaded the application: gunicorn's hook `post_worker_init`."""
        worker.heartbeat = Heartbeat(
            self._url, WEB, self._name, ready=self._is_schema_usable, started=self._started, remove=False
        )
        worker.heartbeat.start()

    def end_in_worker(self, _server: Any, worker: Any) -> None:
        """End in a worker that ends: gunicorn's hook `worker_exit`, called in the worker."""
        if worker.heartbeat:
            worker.heartbeat.close()

    def end_in_master(self, _server: Any) -> None:
        """Remove the row when all workers have ended: gunicorn's hook `on_exit`, called in its master.

        Raises:
            SystemExit: with status 1, when the schema is older than the code, so that web's status says why it ended.
        """
        remove_row(self._url, self._name)
        if self._is_outdated[0]:
            sys.exit(1)

    def _is_schema_usable(self, engine: Engine) -> bool:
        """Whether web may go on; an outdated schema ends it, also where Postgres was unavailable at its start."""
        if not self._is_outdated[0]:
            try:
                revision.check(engine)
            except SchemaOutdated as error:
                if self._is_outdated[0]:
                    # Another worker has printed it. Two that find it at the same moment both do, which does no harm.
                    return False
                self._is_outdated[0] = 1
                print(error, file=sys.stderr)  # noqa: T201 - one clear line, also where logs are JSON
                os.kill(self._master, signal.SIGTERM)
        return not self._is_outdated[0]

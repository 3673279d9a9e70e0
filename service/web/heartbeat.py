"""web's heartbeat: one row for gunicorn's master and its workers, sent by one worker at a time.

gunicorn's master may hold no connection that its workers would inherit, and a worker's heartbeat stops when its event
loop does. So the workers send it, under the master's name, and share in memory which of them does.
"""

from __future__ import annotations

import mmap
import os
import struct
from time import monotonic
from typing import Any

from service.heartbeat import WEB, Heartbeat
from service.process_identity import new_process_name

# Two heartbeats that do not come, and another worker takes over.
TAKE_OVER_SECONDS = 10.0
_TURN_LAYOUT = struct.Struct("qd")


class HeartbeatTurn:
    """Which worker of this master sends the heartbeat: process id, and when it last did, in memory that all share."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _TURN_LAYOUT.size)

    def take(self) -> bool:
        """Whether this worker is to send the next heartbeat: it sent the last one, or no worker has for a while.

        Two that take it at the same moment write the same row, once.
        """
        holder, at = _TURN_LAYOUT.unpack(self._shared[:])
        if holder != os.getpid() and monotonic() - at < TAKE_OVER_SECONDS:
            return False
        self._shared[:] = _TURN_LAYOUT.pack(os.getpid(), monotonic())
        return True


class WebHeartbeat:
    """The heartbeat of one web process; made by gunicorn's master before it forks.

    Args:
        url: of Postgres.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = new_process_name()
        self._turn = HeartbeatTurn()

    def start_in_worker(self, worker: Any) -> None:
        """Start in a worker that has loaded the application: gunicorn's hook `post_worker_init`."""
        worker.heartbeat = Heartbeat(self._url, WEB, self._name, self._turn.take)
        worker.heartbeat.start()

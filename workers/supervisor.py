"""A worker process: one child for drains alone, one for all other work, so that no pull ever delays a drain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import structlog

from service.broker.jobs import DRAIN_QUEUE, WORK_QUEUE
from service.errors import PostgresUnavailable
from service.heartbeat import WORKER, Heartbeat
from service.log import log_start
from service.parent_death import die_with_parent
from service.process_identity import new_process_name
from service.signal_handlers import signals_held, start_exit_watchdog, stop_on_signals
from service.storage import database
from service.storage.database import BackgroundCall
from service.storage.migrations import revision
from workers.progress import ProgressMonitor

if TYPE_CHECKING:
    from service.config import Settings

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
# A busy machine takes this long to load a child's code.
START_SECONDS = 60.0
# A connection takes 5 s to fail; a Postgres that hangs must not keep the supervisor from its children.
SCHEMA_SECONDS = 6.0


class SilenceLimits(NamedTuple):
    """How long a child may be silent, in seconds, before it is killed and replaced.

    A drain commits a batch in well under a second, and reports each round of waiting. The other work goes on in slices
    under 30 s; a single statement of it may take longer. An idle child reports every five seconds, and one on a Redis
    that hangs every sixteen (`rq_worker`).

    Attributes:
        drain: of the drain.
        work: of the child for all other work.
        alive: longest silence of the drain with which the worker still sends heartbeats.
    """

    drain: float = 60.0
    work: float = 90.0
    alive: float = 20.0


class WorkerChild:
    """A child that runs the jobs of one queue.

    Attributes:
        seen_at: when it last reported, on the monotonic clock; None before its first report.
    """

    def __init__(self, queue: str, limit: float) -> None:
        self._queue = queue
        self._limit = limit
        self.seen_at: float | None = None
        self._start()

    def check(self) -> None:
        """Start the child again where it ended; kill it where it makes no progress."""
        status = self.process.poll()
        silent = self._progress.silent_seconds()
        self.seen_at = self._progress.last
        if status is not None:
            log.error("worker.child.ended", queue=self._queue, status=status)
            self._progress.close()
            self._start()
        elif silent > (self._limit if self.seen_at else max(self._limit, START_SECONDS)):
            # Its successor does again what was in flight; a child that the kernel holds ends later.
            log.error("worker.child.silent", queue=self._queue, pid=self.process.pid, seconds=round(silent))
            self.process.kill()

    def _start(self) -> None:
        self._progress = ProgressMonitor()
        pipe = self._progress.descriptor
        command = die_with_parent([sys.executable, "-m", "workers.rq_worker", self._queue, str(pipe)], signal.SIGTERM)
        try:
            # Ctrl-C reaches a child, too, also one that is just starting.
            with signals_held():
                self.process = subprocess.Popen(command, pass_fds=(pipe,))
        finally:
            os.close(pipe)


class Supervisor:
    """The children of one worker process."""

    def __init__(self, settings: Settings, limits: SilenceLimits) -> None:
        self._engine = database.connect(settings.postgres_url, pool_size=1)
        self._schema_checked = False
        self._limits = {DRAIN_QUEUE: limits.drain, WORK_QUEUE: limits.work}
        self._alive_seconds = limits.alive
        self._children: dict[str, WorkerChild] = {}

    def tick(self) -> None:
        """Look at each child, and at the schema until it was seen to be new enough.

        Raises:
            SchemaOutdated: the database is older than the code.
        """
        self._check_schema()
        for queue, limit in self._limits.items():
            if queue in self._children:
                self._children[queue].check()
            else:
                self._children[queue] = WorkerChild(queue, limit)

    def alive(self) -> bool:
        """Whether the drain makes progress or waits; for any thread."""
        drain = self._children.get(DRAIN_QUEUE)
        return drain is not None and drain.seen_at is not None and monotonic() - drain.seen_at < self._alive_seconds

    def end(self) -> None:
        """Let the children end between two batches; `kill` comes for one that does not."""
        for child in self._children.values():
            child.process.terminate()
        for child in self._children.values():
            child.process.wait()

    def kill(self) -> None:
        """End the children at once; for any thread."""
        for child in list(self._children.values()):
            child.process.kill()

    def _check_schema(self) -> None:
        if self._schema_checked:
            return
        try:
            BackgroundCall(lambda: revision.check(self._engine)).result(SCHEMA_SECONDS)
        except PostgresUnavailable as error:
            log.warning("worker.waits", error=str(error))
        else:
            self._schema_checked = True
            self._engine.dispose()


def run(settings: Settings, limits: SilenceLimits | None = None) -> None:
    """Keep both children running until SIGTERM or SIGINT, then stop them.

    Raises:
        SchemaOutdated: the database is older than the code.
    """
    stop = threading.Event()
    stop_on_signals(stop)
    supervisor = Supervisor(settings, limits or SilenceLimits())
    heartbeat = Heartbeat(settings.postgres_url, WORKER, new_process_name(), supervisor.alive)
    # Every setting is checked by now: a wrong one ends the process with one line.
    log_start(WORKER)
    start_exit_watchdog(stop, supervisor.kill)
    heartbeat.start()
    try:
        while not stop.is_set():
            supervisor.tick()
            stop.wait(TICK_SECONDS)
    finally:
        stop.set()
        heartbeat.stop()
        supervisor.end()
        heartbeat.close()

"""A worker process: one child for drains alone, one for all other work, so that no pull ever delays a drain."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import structlog

from service.errors import StorageUnavailable
from service.leash import leashed
from service.queue import DRAIN_QUEUE, WORK_QUEUE
from service.storage import database, revision
from workers.ending import end_when_stuck

if TYPE_CHECKING:
    from service.config import Settings

log = structlog.get_logger(__name__)

QUEUES = (DRAIN_QUEUE, WORK_QUEUE)
RESTART_PAUSE_SECONDS = 1.0


def run(settings: Settings) -> None:
    """Keep both children running until SIGTERM or SIGINT, then stop them.

    Raises:
        SchemaOutdated: the database is older than the code.
    """
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    engine = database.connect(settings.postgres_url, pool_size=1)
    children: dict[str, subprocess.Popen[bytes]] = {}
    end_when_stuck(stop, lambda: _kill(children))
    checked = False
    try:
        while not stop.is_set():
            checked = checked or _schema_is_fine(engine)
            for queue in QUEUES:
                _keep_running(children, queue)
            stop.wait(RESTART_PAUSE_SECONDS)
    finally:
        stop.set()
        _end(children)


def _schema_is_fine(engine: Any) -> bool:
    """Whether the schema was seen to be new enough; False while Postgres is gone: then it is asked again."""
    try:
        revision.check(engine)
    except StorageUnavailable as error:
        log.warning("worker.waits", error=str(error))
        return False
    engine.dispose()
    return True


def _keep_running(children: dict[str, subprocess.Popen[bytes]], queue: str) -> None:
    """Start a child, or start it again where it ended."""
    child = children.get(queue)
    if child is not None and child.poll() is None:
        return
    if child is not None:
        log.error("worker.child.ended", queue=queue, status=child.returncode)
    children[queue] = subprocess.Popen(leashed([sys.executable, "-m", "workers.child", queue], signal.SIGTERM))


def _end(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Let the children end between two batches; `_kill` comes for one that does not."""
    for child in children.values():
        child.terminate()
    for child in children.values():
        child.wait()


def _kill(children: dict[str, subprocess.Popen[bytes]]) -> None:
    for child in list(children.values()):
        child.kill()

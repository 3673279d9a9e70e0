"""RQ's worker, mended: it comes back when Redis does, and stops between two batches."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import redis
import structlog
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from service import inbox
from service.queue import queue_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rq import Queue
    from rq.job import Job

    from service.runtime import Runtime

log = structlog.get_logger(__name__)

# RQ blocks for this less 15 s on its queue, and takes a connection for hung after this less 5 s. An idle child reports
# each time: its supervisor's `ALIVE_SECONDS` is longer than both.
WORKER_TTL_SECONDS = 20
COME_BACK_SECONDS = 1.0


class Worker(SimpleWorker):
    """RQ's worker that runs jobs in its own process.

    SimpleWorker, because a fork for each job costs more than a batch; our slices are short enough without it.
    """

    runtime: Runtime
    max_connection_wait_time = 1.0
    log_result_lifespan = False

    def _install_signal_handlers(self) -> None:
        """A signal that came before is ours alone: RQ would wait for a job, until somebody loses patience."""
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]  # RQ types it not
        if self.runtime.stop.is_set():
            raise StopRequested

    def handle_warm_shutdown_request(self) -> None:
        """On SIGTERM the running job is told, too: it ends between two batches or pages."""
        self.runtime.stop.set()

    def set_shutdown_requested_date(self) -> None:
        """RQ would write this to Redis from its signal handler, and fail the running job when Redis is gone."""

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        """RQ calls this before and after each job, and each time that it begins to wait for one, also without Redis."""
        self.runtime.progress()
        super().heartbeat(*args, **kwargs)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Each line that is logged meanwhile names the job."""
        with structlog.contextvars.bound_contextvars(job_id=job.id):
            super().execute_job(job, queue)

    def subscribe(self) -> None:
        """RQ's remote commands are not used, and their thread would outlive a connection that broke."""

    def unsubscribe(self) -> None:
        """See `subscribe`."""


def work(runtime: Runtime, queue: str, meanwhile: Callable[[], None]) -> None:
    """Run jobs of one queue until the process is asked to stop.

    RQ's loop ends when Redis goes away during a job, or cannot be reached at its start: it begins again.

    Args:
        runtime: this process's.
        queue: RQ's name of it.
        meanwhile: what can be done while Redis is gone; called about each second.
    """
    # RQ blocks on this connection, and sets its time-out itself.
    client = inbox.connect(runtime.settings.redis, timeout=None)
    while not runtime.stop.is_set():
        _take_signals(runtime)
        try:
            worker = Worker(
                [queue_of(client, queue)], connection=client, serializer=JSONSerializer, worker_ttl=WORKER_TTL_SECONDS
            )
            worker.runtime = runtime
            worker.work(logging_level="WARNING")
        except StopRequested:
            return
        except (redis.exceptions.RedisError, OSError) as error:
            runtime.progress()
            log.warning("worker.waits", queue=queue, error=str(error))
            _take_signals(runtime)
            meanwhile()
        _take_signals(runtime)
        runtime.stop.wait(COME_BACK_SECONDS)


def _take_signals(runtime: Runtime) -> None:
    """Between two of RQ's loops the signals are ours."""

    def stop(_number: int, _frame: Any) -> None:
        runtime.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

"""A child of a worker process: `python -m workers.rq_worker QUEUE PIPE`. Started by `workers.supervisor` alone.

PIPE is the number of the descriptor on which it reports progress. RQ's worker is mended here: it comes back when Redis
does, stops between two batches, and runs our own jobs alone (`workers.own_jobs`).
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import redis
import structlog
from rq import Queue
from rq.exceptions import NoSuchJobError, StopRequested
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import SimpleWorker

from service import config
from service import log as logging
from service.broker.client import connect_redis
from service.broker.jobs import DRAIN_QUEUE, rq_queue
from service.garbage import GC_THRESHOLD
from service.runtime import Runtime
from service.signal_handlers import setter_for_handlers, start_exit_watchdog, stop_on_signals
from service.storage.database import on_statement_executed

# The jobs are imported before the first one comes, which else would wait for that.
from workers import jobs
from workers.own_jobs import RestrictedJob
from workers.progress import ProgressReporter

if TYPE_CHECKING:
    from rq.job import Job

log = structlog.get_logger(__name__)

# RQ blocks for this less 15 s on its queue, and takes a connection for hung after this less 5 s. An idle child reports
# each time: `alive` of `supervisor.SilenceLimits` is longer than both.
WORKER_TTL_SECONDS = 20
RECONNECT_SECONDS = 1.0
THREAD_SWITCH_SECONDS = 0.0002
# So few cycles come from jobs in between that the threshold is reached after an hour: until then they hold megabytes.
GC_SECONDS = 60.0


class Worker(SimpleWorker):
    """RQ's worker that runs jobs in its own process.

    SimpleWorker, because a fork for each job costs more than a batch; our slices are short enough without it.
    """

    runtime: Runtime
    job_class = RestrictedJob
    max_connection_wait_time = 1.0
    log_result_lifespan = False
    _collected_at = 0.0

    def _install_signal_handlers(self) -> None:
        """After an earlier signal, stop at once: RQ would first wait for a job."""
        # Made here, because it starts a thread: a handler must not wait for one.
        self._set_stop = setter_for_handlers(self.runtime.stop)
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]  # RQ types it not
        if self.runtime.stop.is_set():
            raise StopRequested

    def handle_warm_shutdown_request(self) -> None:
        """On SIGTERM stop the running job, too: it ends between two batches or pages. Called in RQ's handler."""
        self._set_stop()

    def set_shutdown_requested_date(self) -> None:
        """RQ would write this to Redis from its signal handler, and fail the running job while Redis is unavailable."""

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        """RQ calls this before and after each job, and each time that it begins to wait for one, also without Redis."""
        self.runtime.progress()
        super().heartbeat(*args, **kwargs)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run one of our jobs, refuse any other before RQ has done anything for it; each line logged names the job."""
        assert isinstance(job, RestrictedJob), "`job_class`"
        with structlog.contextvars.bound_contextvars(job_id=job.id):
            reason = job.reason_to_refuse(queue.name)
            if reason:
                log.error("job.refused", queue=queue.name, function=job.function_name(), reason=reason)
                job.remove(queue)
                return
            try:
                super().execute_job(job, queue)
            finally:
                # Each of RQ's calls of a Redis that hangs takes its time, and several may follow a job.
                self.runtime.progress()
        if monotonic() - self._collected_at > GC_SECONDS:
            # Objects from the start of the process are frozen, so a collection takes a millisecond.
            gc.collect()
            self._collected_at = monotonic()

    def dequeue_job_and_maintain_ttl(self, *arguments: Any, **options: Any) -> tuple[Job, Queue] | None:
        """The next job; one that RQ cannot fetch is refused, and does not end the loop."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(*arguments, **options)
            except (ValueError, TypeError, redis.exceptions.ResponseError) as error:
                # RQ notes at the error which job it was.
                job_id, queue = getattr(error, "job_id", None), getattr(error, "queue", None)
                if isinstance(error, UnicodeDecodeError) and self._remove_unreadable_ids():
                    continue
                if not isinstance(job_id, str) or not isinstance(queue, Queue):
                    raise
                log.error("job.refused", queue=queue.name, job_id=job_id, reason=type(error).__name__)
                queue.intermediate_queue.remove(job_id)
                self.connection.delete(RestrictedJob.key_for(job_id))

    def clean_registries(self) -> None:
        """RQ's housekeeping; what it cannot read there must not keep the worker from its jobs."""
        try:
            super().clean_registries()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, NoSuchJobError, redis.exceptions.ResponseError) as error:
            self._remove_unreadable_ids()
            log.error("worker.cleanup_failed", queues=self.queue_names(), reason=type(error).__name__)
            # RQ does so when it is done; else it would begin again for each job.
            self.last_cleaned_at = now()  # type: ignore[assignment]  # RQ types it as None alone

    def _remove_unreadable_ids(self) -> int:
        """Remove ids that are no text from where RQ keeps what it has taken: RQ could never clean up there again."""
        removed = 0
        for queue in self.queues:
            job_ids: list[Any] = self.connection.lrange(queue.intermediate_queue_key, 0, -1)
            for job_id in job_ids:
                if "\ufffd" in job_id.decode(errors="replace"):
                    removed += self.connection.lrem(queue.intermediate_queue_key, 0, job_id)
                    log.error("job.refused", queue=queue.name, job_id=repr(job_id), reason="its id is no text")
        return removed

    def subscribe(self) -> None:
        """RQ's remote commands are not used, and their thread would outlive a connection that broke."""

    def unsubscribe(self) -> None:
        """See `subscribe`."""


def work(runtime: Runtime, queue: str) -> None:
    """Run jobs of one queue until the process has to stop.

    RQ's loop ends when Redis becomes unavailable during a job, or cannot be reached at its start: it begins again.
    Drains apply the spool meanwhile; other work needs Redis, because the request budget is there.
    """
    # RQ blocks on this connection, and sets its timeout itself.
    client = connect_redis(runtime.settings.redis, timeout=None)
    # A signal that comes while RQ's handlers are in place, in its loop or just after, raises `StopRequested` here.
    with suppress(StopRequested):
        while not runtime.stop.is_set():
            runtime.progress()
            # RQ sets its own handlers while its loop runs.
            stop_on_signals(runtime.stop)
            try:
                worker = Worker(
                    [rq_queue(client, queue, RestrictedJob)],
                    connection=client,
                    serializer=JSONSerializer,
                    worker_ttl=WORKER_TTL_SECONDS,
                )
                worker.runtime = runtime
                worker.work(logging_level="WARNING")
            except (redis.exceptions.RedisError, OSError) as error:
                runtime.progress()
                log.warning("worker.waits", queue=queue, error=str(error))
                stop_on_signals(runtime.stop)
                if queue == DRAIN_QUEUE:
                    jobs.drain_without_redis()
            stop_on_signals(runtime.stop)
            runtime.stop.wait(RECONNECT_SECONDS)


def main(queue: str, pipe: int | None = None) -> None:
    """Run the jobs of one queue, and report progress on a pipe."""
    settings = config.load(("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY"))
    logging.configure(settings)
    logging.log_crashes_without_messages()
    runtime = Runtime.build(settings)
    runtime.progress = ProgressReporter(pipe)
    on_statement_executed(runtime.engine, runtime.progress)
    jobs.install(runtime)
    # While one thread merges, another waits for Postgres (`service.mirror.apply`); the default is 5 ms.
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    gc.freeze()
    # A batch of 2,000 deliveries keeps 50,000 objects until its end: a search among them takes as long as their merge.
    gc.set_threshold(4 * GC_THRESHOLD)
    # The supervisor that would end it may be dead.
    start_exit_watchdog(runtime.stop)
    work(runtime, queue)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))

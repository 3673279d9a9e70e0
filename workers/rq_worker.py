"""RQ's worker, mended: it comes back when Redis does, stops between two batches, and runs our own jobs alone.

RQ calls whatever function a job in Redis names, imports its callbacks and sends its webhooks. So a person who can write
to Redis could run anything here. Three things prevent that: `RestrictedJob` has no function but ours, and no callbacks
or webhooks, whichever part of RQ asks for them; `Worker.execute_job` refuses and deletes a job that asks for more than
`service.broker.jobs.Job` ever does; and a job that RQ cannot even read ends neither the worker nor its housekeeping.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import redis
import structlog
from rq import Queue
from rq.exceptions import DeserializationError, NoSuchJobError, StopRequested
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import SimpleWorker

from service.broker import inbox
from service.broker.jobs import FAILURE_TTL_SECONDS, rq_queue
from service.broker.jobs import Job as MirrorJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.runtime import Runtime

log = structlog.get_logger(__name__)

# RQ blocks for this less 15 s on its queue, and takes a connection for hung after this less 5 s. An idle child reports
# each time: `alive` of `supervisor.SilenceLimits` is longer than both.
WORKER_TTL_SECONDS = 20
RECONNECT_SECONDS = 1.0


# Fields by which a job of RQ asks for more than its function and arguments; our jobs never have them.
FORBIDDEN_FIELDS = (
    "success_callback_name",
    "failure_callback_name",
    "stopped_callback_name",
    "webhooks",
    "dependency_ids",
    "dependency_id",
    "repeats_left",
    "retries_left",
    "group_id",
    "rate_limit_key",
)
LONGEST_NAME_LOGGED = 200
# A job of ours as RQ has it: function, no object, arguments, no named ones, the queue it says and the one it came from.
ALLOWED_CALLS: list[tuple[Any, ...]] = [
    (job.function, None, [*job.arguments], {}, job.queue, job.queue) for job in MirrorJob
]
# RQ passes a job's times on to Redis, which refuses one that is too long, and RQ's loop ends. Ours are no longer.
LONGEST_SECONDS = FAILURE_TTL_SECONDS


class RestrictedJob(Job):
    """A job as Redis holds it, of which RQ can run nothing that is not ours.

    Attributes:
        refusal: why it is not one of `service.broker.jobs.Job`; empty where it may be.
    """

    refusal: str = ""

    def restore(self, raw_data: Any) -> None:
        """Take over what Redis holds; a job that RQ cannot read is kept as one that is refused."""
        fields = {bytes(name).decode(errors="replace"): value for name, value in raw_data.items()}
        asked = [name for name in FORBIDDEN_FIELDS if fields.get(name)]
        if asked:
            self.refusal = f"it names {', '.join(asked)}"
        try:
            super().restore(raw_data)
        except Exception as error:  # noqa: BLE001 - each field is parsed, and each may hold anything
            self.refusal = f"it cannot be read: {type(error).__name__}"
            self.data = b""

    @property
    def func(self) -> Any:
        """The function, when it is one of ours: nothing else is even imported."""
        if self.func_name not in [job.function for job in MirrorJob]:
            raise DeserializationError("not a function of ours")
        return super().func

    @property
    def success_callback(self) -> None:
        """None: ours have no callbacks, and RQ's housekeeping would run them too."""

    @property
    def failure_callback(self) -> None:
        """See `success_callback`."""

    @property
    def stopped_callback(self) -> None:
        """See `success_callback`."""

    def send_webhooks(self, *_arguments: Any, **_options: Any) -> None:
        """Send none: ours have none, and RQ's housekeeping would send them too."""

    def reason_to_refuse(self, queue: str) -> str:
        """Why the worker of this queue refuses it; empty where it is exactly a job of ours."""
        if self.refusal:
            return self.refusal
        try:
            asked = (self.func_name, self.instance, list(self.args), self.kwargs, self.origin, queue)
        except (DeserializationError, TypeError) as error:
            return f"it cannot be read: {type(error).__name__}"
        times = (self.timeout, self.ttl, self.result_ttl, self.failure_ttl)
        if not all(time is None or 0 <= time <= LONGEST_SECONDS for time in times):
            return f"it names a time that is not within {LONGEST_SECONDS} s"
        return "" if asked in ALLOWED_CALLS else "no job of ours has this function, these arguments and this queue"

    def function_name(self) -> str:
        """The name of its function, for the log."""
        try:
            return str(self.func_name)[:LONGEST_NAME_LOGGED]
        except DeserializationError:
            return ""

    def remove(self, queue: Queue) -> None:
        """Delete it, without what RQ would do for its group, its dependents or its rate limit."""
        with self.connection.pipeline() as pipeline:
            pipeline.lrem(queue.intermediate_queue_key, 0, self.id)
            results: str = Result.get_key(self.id)  # type: ignore[no-untyped-call]  # RQ types it not
            pipeline.delete(self.key, self.dependents_key, self.dependencies_key, results)
            pipeline.execute()


class Worker(SimpleWorker):
    """RQ's worker that runs jobs in its own process.

    SimpleWorker, because a fork for each job costs more than a batch; our slices are short enough without it.
    """

    runtime: Runtime
    job_class = RestrictedJob
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
        """Run a job of ours, refuse any other before RQ has done anything for it; each line logged names the job."""
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


def work(runtime: Runtime, queue: str, while_unavailable: Callable[[], None]) -> None:
    """Run jobs of one queue until the process is asked to stop.

    RQ's loop ends when Redis goes away during a job, or cannot be reached at its start: it begins again.

    Args:
        runtime: this process's.
        queue: RQ's name of it.
        while_unavailable: what can be done while Redis is gone; called about each second.
    """
    # RQ blocks on this connection, and sets its time-out itself.
    client = inbox.connect(runtime.settings.redis, timeout=None)
    while not runtime.stop.is_set():
        runtime.progress()
        _install_stop_handlers(runtime)
        try:
            worker = Worker(
                [rq_queue(client, queue, RestrictedJob)],
                connection=client,
                serializer=JSONSerializer,
                worker_ttl=WORKER_TTL_SECONDS,
            )
            worker.runtime = runtime
            worker.work(logging_level="WARNING")
        except StopRequested:
            return
        except (redis.exceptions.RedisError, OSError) as error:
            runtime.progress()
            log.warning("worker.waits", queue=queue, error=str(error))
            _install_stop_handlers(runtime)
            while_unavailable()
        _install_stop_handlers(runtime)
        runtime.stop.wait(RECONNECT_SECONDS)


def _install_stop_handlers(runtime: Runtime) -> None:
    """Between two of RQ's loops the signals are ours."""

    def stop(_number: int, _frame: Any) -> None:
        runtime.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

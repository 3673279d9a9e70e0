"""Jobs as a worker reads them from Redis: none but our own.

RQ calls whatever function a job in Redis names, imports its callbacks and sends its webhooks. So a person who can write
to Redis could run anything in a worker. `RestrictedJob` prevents that: it has no function but ours, and no callbacks
or webhooks, whichever part of RQ asks for them. `workers.rq_worker` refuses and deletes a job that asks for more than
`service.broker.jobs.Job` ever does; and a job that RQ cannot even read ends neither the worker nor its housekeeping.

Why: `docs/decisions/0025-foreign-jobs-are-refused.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rq.exceptions import DeserializationError
from rq.job import Job
from rq.results import Result

from service.broker.jobs import FAILURE_TTL_SECONDS
from service.broker.jobs import Job as MirrorJob

if TYPE_CHECKING:
    from rq import Queue

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
# A job of `service.broker.jobs` as RQ has it: function, object, arguments, named ones, its queue, its worker's queue.
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
        forbidden = [name for name in FORBIDDEN_FIELDS if fields.get(name)]
        if forbidden:
            self.refusal = f"it names {', '.join(forbidden)}"
        try:
            super().restore(raw_data)
        except Exception as error:  # noqa: BLE001 - each field is parsed, and each may hold anything
            self.refusal = f"it cannot be read: {type(error).__name__}"
            self.data = b""

    @property
    def func(self) -> Any:
        """The function, when it is one of our jobs: nothing else is even imported."""
        if self.func_name not in [job.function for job in MirrorJob]:
            raise DeserializationError("not one of our functions")
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
        """Why the worker of this queue refuses it; empty where it is exactly one of our jobs."""
        if self.refusal:
            return self.refusal
        try:
            call = (self.func_name, self.instance, list(self.args), self.kwargs, self.origin, queue)
        except (DeserializationError, TypeError) as error:
            return f"it cannot be read: {type(error).__name__}"
        times = (self.timeout, self.ttl, self.result_ttl, self.failure_ttl)
        if not all(time is None or 0 <= time <= LONGEST_SECONDS for time in times):
            return f"it names a time that is not within {LONGEST_SECONDS} s"
        return "" if call in ALLOWED_CALLS else "none of our jobs has this function, these arguments and this queue"

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

"""The only producer of RQ jobs: the list of jobs, their queues, and how one is queued.

Jobs are few and large, and named by string: the application never imports its workers. A job that still waits is not
queued twice. A flag that soon expires ensures that, never RQ's own state: its records of a worker that was killed may
stay for many minutes.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from rq import Queue
from rq.serializers import JSONSerializer

from service.broker.client import clear_flag, raise_flag, translate_redis_errors

if TYPE_CHECKING:
    import redis
    from rq.job import Job as RqJob

DRAIN_QUEUE = "headshotpro-drain"
WORK_QUEUE = "headshotpro-work"

# RQ kills a job after this; every job works in slices far shorter.
JOB_TIMEOUT_SECONDS = 180
FAILURE_TTL_SECONDS = 3600

# A job that a worker took and lost, because it was cut off or died before it began, is queued again after this.
# Redis gives jobs to clients that wait, also to a client that is dead.
WORK_FLAG_MS = 10_000

# A queue longer than this has no worker: more jobs would only pile up.
MAX_QUEUED_JOBS = 20


class Job(Enum):
    """Every job: the function, its arguments, its queue, and for how many ms it is not queued twice."""

    DRAIN = ("workers.jobs.drain", (), DRAIN_QUEUE, 2_000)
    PULL_FULL = ("workers.jobs.pull", ("full",), WORK_QUEUE, WORK_FLAG_MS)
    PULL_HOT = ("workers.jobs.pull", ("hot",), WORK_QUEUE, WORK_FLAG_MS)
    # Due at any interval: a person wants it, or a create without a response may have made a model.
    PULL_FULL_NOW = ("workers.jobs.pull_now", ("full",), WORK_QUEUE, 2_000)
    PULL_HOT_NOW = ("workers.jobs.pull_now", ("hot",), WORK_QUEUE, 2_000)
    REFETCH = ("workers.jobs.refetch", (), WORK_QUEUE, WORK_FLAG_MS)
    SWEEP = ("workers.jobs.sweep", (), WORK_QUEUE, WORK_FLAG_MS)
    COUNT_MISSED = ("workers.jobs.count_missed", (), WORK_QUEUE, WORK_FLAG_MS)
    CHECK_ACCURACY = ("workers.jobs.check_accuracy", (), WORK_QUEUE, WORK_FLAG_MS)
    COMPUTE_ACCURACY = ("workers.jobs.compute_accuracy", (), WORK_QUEUE, WORK_FLAG_MS)
    RUN_TASKS = ("workers.jobs.run_tasks", (), WORK_QUEUE, WORK_FLAG_MS)
    APPLY_RETENTION = ("workers.jobs.apply_retention", (), WORK_QUEUE, WORK_FLAG_MS)

    def __init__(self, function: str, arguments: tuple[str, ...], queue: str, flag_ms: int) -> None:
        self.function = function
        self.arguments = arguments
        self.queue = queue
        self.flag_ms = flag_ms

    @property
    def flag(self) -> str:
        """The key that is set while this job waits."""
        return f"headshotpro:waiting:{self.name.lower()}"


class JobQueue:
    """RQ's two queues, for producers of jobs."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def enqueue(self, job: Job) -> bool:
        """Queue a job unless it waits already.

        Returns:
            Whether it was queued.

        Raises:
            RedisUnavailable: Redis cannot be reached.
        """
        if raise_flag(self._client, job.flag, job.flag_ms):
            return self.enqueue_flagged(job)
        with translate_redis_errors():
            if self._client.pttl(job.flag) == -1:
                # None of our jobs raised it, and it would never fall.
                self._client.delete(job.flag)
        return False

    def enqueue_flagged(self, job: Job) -> bool:
        """Queue a job whose flag the caller has just raised; see `enqueue`."""
        with translate_redis_errors():
            queue = rq_queue(self._client, job.queue)
            # One waiting drain is enough, whatever became of its flag: any worker that is free takes it.
            if queue.count >= (1 if job is Job.DRAIN else MAX_QUEUED_JOBS):
                return False
            queue.enqueue_call(
                job.function,
                args=job.arguments,
                timeout=JOB_TIMEOUT_SECONDS,
                result_ttl=0,
                failure_ttl=FAILURE_TTL_SECONDS,
                description=job.name.lower(),
            )
            return True

    def clear_flag(self, job: Job) -> None:
        """A job runs now: from here on, new work queues it again.

        A job calls this before it reads its work; in the other order, work that comes in between would wait.
        """
        clear_flag(self._client, job.flag)


def rq_queue(client: redis.Redis, name: str, job_class: type[RqJob] | None = None) -> Queue:
    """One of the two queues; jobs are JSON, so that no pickle gets into a worker."""
    return Queue(name, connection=client, serializer=JSONSerializer, job_class=job_class)

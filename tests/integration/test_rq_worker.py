"""RQ's worker with our changes: jobs that its own loop would miss, and jobs of strangers that it must not run."""

from __future__ import annotations

import gc
import pickle
import signal
import sys
import weakref
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError
from rq import Callback, Queue, Repeat, Retry
from rq.exceptions import StopRequested
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.webhook import Webhook
from structlog.testing import capture_logs

from service.broker.jobs import DRAIN_QUEUE, WORK_QUEUE, JobQueue, rq_queue
from service.broker.jobs import Job as MirrorJob
from service.config import Settings
from service.runtime import Runtime
from workers import jobs, rq_worker
from workers.own_jobs import RestrictedJob
from workers.rq_worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_httpserver import HTTPServer
    from rq.job import Job


@pytest.fixture(autouse=True)
def _signals_stay_pytests() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_signal_before_the_rq_loop_starts_ends_the_worker(database_url: str, redis_url: str) -> None:
    runtime = Runtime.build(Settings(database_url=database_url, redis_url=redis_url))
    queue = rq_queue(runtime.redis, DRAIN_QUEUE)
    worker = Worker([queue], connection=runtime.redis, serializer=JSONSerializer)
    worker.runtime = runtime
    # Our own handler took it: RQ's are not there yet, and its loop would wait for a job first.
    runtime.stop.set()
    with pytest.raises(StopRequested):
        worker.work(burst=True)


def test_signal_after_the_rq_loop_broke_ends_the_worker(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(worker: Worker, **_options: Any) -> None:
        worker._install_signal_handlers()
        runtime.progress = partial(signal.raise_signal, signal.SIGTERM)
        raise RedisError

    monkeypatch.setattr(Worker, "work", break_off)
    # RQ's handler raises an error outside of RQ's loop.
    rq_worker.work(runtime, WORK_QUEUE)
    assert runtime.stop.wait(5)


@pytest.fixture
def runtime(database_url: str, redis_url: str) -> Runtime:
    built = Runtime.build(Settings(database_url=database_url, redis_url=redis_url))
    jobs.install(built)
    return built


@pytest.fixture
def queue(runtime: Runtime) -> Queue:
    """RQ's own queue, as every client of Redis can use it."""
    return Queue(WORK_QUEUE, connection=runtime.redis, serializer=JSONSerializer)


def work(runtime: Runtime, name: str = WORK_QUEUE) -> list[str]:
    """Let a worker do all that waits, with its housekeeping: why it refused jobs."""
    queue = rq_queue(runtime.redis, name, RestrictedJob)
    worker = Worker([queue], connection=runtime.redis, serializer=JSONSerializer)
    worker.runtime = runtime
    with capture_logs() as logs:
        worker.work(burst=True, logging_level="WARNING")
    return [line["reason"] for line in logs if line["event"] == "job.refused"]


def nothing_is_left(runtime: Runtime) -> bool:
    keys = {
        key.decode() for pattern in ("rq:job:*", "rq:queue:*", "rq:results:*") for key in runtime.redis.keys(pattern)
    }
    return not keys


FOREIGN: dict[str, Callable[[Queue, str], Any]] = {
    "a function of the system": lambda queue, made: queue.enqueue_call("os.mkdir", args=(made,)),
    "a builtin": lambda queue, made: queue.enqueue_call("builtins.exec", args=(f"open({made!r}, 'w')",)),
    "another function of our modules": lambda queue, made: queue.enqueue_call("workers.jobs.monotonic"),
    "one of our jobs with other arguments": lambda queue, made: queue.enqueue_call(
        "workers.jobs.apply_retention", args=(made,)
    ),
    "one of our jobs with named arguments": lambda queue, made: queue.enqueue_call(
        "workers.jobs.pull", kwargs={"kind": "full"}
    ),
    "a job of the other queue": lambda queue, made: queue.enqueue_call("workers.jobs.drain"),
    "a callback after success": lambda queue, made: queue.enqueue_call(
        "workers.jobs.apply_retention", on_success=Callback("os.mkdir")
    ),
    "a callback after failure": lambda queue, made: queue.enqueue_call(
        "workers.jobs.apply_retention", on_failure=Callback("os.mkdir")
    ),
    "a callback after a stop": lambda queue, made: queue.enqueue_call(
        "workers.jobs.apply_retention", on_stopped=Callback("os.mkdir")
    ),
    "a repetition": lambda queue, made: queue.enqueue_call("workers.jobs.apply_retention", repeat=Repeat(times=3)),
    "another try": lambda queue, made: queue.enqueue_call("workers.jobs.apply_retention", retry=Retry(max=3)),
}


@pytest.mark.parametrize("enqueue", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_job_is_refused_and_deleted(
    enqueue: Callable[[Queue, str], Any], runtime: Runtime, queue: Queue, folder: Path
) -> None:
    enqueue(queue, str(folder / "made"))
    (reason,) = work(runtime)
    assert reason
    assert not (folder / "made").exists()
    assert nothing_is_left(runtime)


def test_webhook_of_foreign_job_is_not_sent(runtime: Runtime, queue: Queue, httpserver: HTTPServer) -> None:
    for status in ("finished", "failed"):
        queue.enqueue_call("workers.jobs.apply_retention", webhooks=[Webhook(httpserver.url_for("/told"), status)])
        queue.enqueue_call("no.such", webhooks=[Webhook(httpserver.url_for("/told"), status)])
    assert len(work(runtime)) == 4
    assert httpserver.log == []


def test_dependents_of_own_job_are_refused_too(runtime: Runtime, queue: Queue, folder: Path) -> None:
    first = queue.enqueue_call("workers.jobs.apply_retention", result_ttl=0)
    queue.enqueue_call("os.mkdir", args=(str(folder / "made"),), depends_on=first)
    assert work(runtime) + work(runtime) == ["it names dependency_ids, dependency_id"]
    assert not (folder / "made").exists()


class Harmful:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return open, (str(self.place), "w")


def test_pickled_job_is_refused_unread(runtime: Runtime, queue: Queue, folder: Path) -> None:
    pickled = pickle.dumps(("os.getpid", None, [Harmful(folder / "made")], {}))
    for number, data in enumerate((pickled, zlib.compress(pickled), b"", b"[]", b"{}", b"[" * 100_000, b"null")):
        job = {"data": data, "origin": queue.name, "status": "queued", "meta": pickled, "result": pickled}
        runtime.redis.hset(f"rq:job:odd-{number}", mapping=job)
        runtime.redis.rpush(queue.key, f"odd-{number}")
    assert len(work(runtime)) == 7
    assert not (folder / "made").exists()
    assert nothing_is_left(runtime)


ODD = {
    "created_at": "soon",
    "timeout": "x",
    "status": "odd",
    "dependency_ids": "{",
    "result_ttl": "x",
    "origin": "\xff",
}


@pytest.mark.parametrize(("field", "value"), ODD.items())
def test_job_with_unreadable_field_is_refused(field: str, value: str, runtime: Runtime, queue: Queue) -> None:
    job = queue.enqueue_call("workers.jobs.apply_retention")
    runtime.redis.hset(job.key, field, value.encode("latin-1"))
    assert len(work(runtime)) == 1
    assert nothing_is_left(runtime)


def test_worker_goes_on_after_jobs_that_rq_cannot_fetch(runtime: Runtime, queue: Queue) -> None:
    runtime.redis.set("rq:job:text", "not a job")
    runtime.redis.rpush(queue.key, "text", "gone")
    JobQueue(runtime.redis).enqueue(MirrorJob.COUNT_MISSED)
    assert work(runtime) == ["ResponseError"]
    assert not runtime.redis.exists("rq:job:text")
    assert not runtime.redis.exists(MirrorJob.COUNT_MISSED.flag)


@pytest.mark.parametrize("field", ["timeout", "ttl", "result_ttl", "failure_ttl"])
@pytest.mark.parametrize("seconds", ["9" * 20, "-5"])
def test_job_with_a_time_that_redis_refuses_is_refused(
    field: str, seconds: str, runtime: Runtime, queue: Queue
) -> None:
    job = queue.enqueue_call("workers.jobs.apply_retention")
    runtime.redis.hset(job.key, field, seconds)
    JobQueue(runtime.redis).enqueue(MirrorJob.COUNT_MISSED)
    assert work(runtime) == ["it names a time that is not within 3600 s"]
    assert not runtime.redis.exists(MirrorJob.COUNT_MISSED.flag)


def test_job_whose_id_is_no_text_leaves_nothing(runtime: Runtime, queue: Queue) -> None:
    # One that waits, and one that a worker took before it was killed.
    runtime.redis.rpush(queue.key, b"\xff\x1b[2J")
    runtime.redis.rpush(queue.intermediate_queue_key, b"\xfe")
    JobQueue(runtime.redis).enqueue(MirrorJob.COUNT_MISSED)
    assert work(runtime) == ["its id is no text"] * 2
    assert not runtime.redis.exists(MirrorJob.COUNT_MISSED.flag, queue.intermediate_queue_key)


def abandon(runtime: Runtime, queue: Queue, job: Job) -> None:
    """As a worker leaves it that was killed: RQ's housekeeping looks for such jobs."""
    queue.remove(job)
    runtime.redis.hset(job.key, "status", "started")
    runtime.redis.zadd(StartedJobRegistry(queue=queue).key, {f"{job.id}:gone": 1})


def test_housekeeping_calls_nothing_for_abandoned_job(runtime: Runtime, queue: Queue, httpserver: HTTPServer) -> None:
    sys.modules.pop("this", None)
    told = Webhook(httpserver.url_for("/told"), "failed")
    job = queue.enqueue_call("workers.jobs.apply_retention", on_failure=Callback("this.s"), webhooks=[told])
    abandon(runtime, queue, job)
    assert work(runtime) == []
    assert RestrictedJob.fetch(job.id, connection=runtime.redis, serializer=JSONSerializer).is_failed
    assert "this" not in sys.modules
    assert httpserver.log == []


def test_retry_of_abandoned_job_is_refused(runtime: Runtime, queue: Queue) -> None:
    abandon(runtime, queue, queue.enqueue_call("workers.jobs.apply_retention", retry=Retry(max=3)))
    assert work(runtime) == ["it names retries_left"]
    assert nothing_is_left(runtime)


def test_worker_goes_on_when_housekeeping_cannot_read_a_record(runtime: Runtime, queue: Queue) -> None:
    runtime.redis.set("rq:job:text", "not a job")
    runtime.redis.zadd(StartedJobRegistry(queue=queue).key, {"text:gone": 2})
    JobQueue(runtime.redis).enqueue(MirrorJob.COUNT_MISSED)
    assert work(runtime) == []
    assert not runtime.redis.exists(MirrorJob.COUNT_MISSED.flag)


def test_own_job_class_imports_and_sends_nothing(runtime: Runtime, queue: Queue, httpserver: HTTPServer) -> None:
    told = Webhook(httpserver.url_for("/told"), "failed")
    calls = {name: Callback("os.getpid") for name in ("on_success", "on_failure", "on_stopped")}
    made = queue.enqueue_call("os.getpid", webhooks=[told], **calls)
    job = RestrictedJob.fetch(made.id, connection=runtime.redis, serializer=JSONSerializer)
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)
    job.send_webhooks("failed")
    assert httpserver.log == []
    with pytest.raises(Exception, match="not one of our functions"):
        job.func  # noqa: B018 - reading it is the point


@pytest.mark.parametrize("ours", MirrorJob)
def test_every_job_of_ours_is_taken_for_one(ours: MirrorJob, runtime: Runtime) -> None:
    assert JobQueue(runtime.redis).enqueue(ours)
    (job_id,) = rq_queue(runtime.redis, ours.queue).job_ids
    job = RestrictedJob.fetch(job_id, connection=runtime.redis, serializer=JSONSerializer)
    assert job.reason_to_refuse(ours.queue) == ""
    assert job.reason_to_refuse(WORK_QUEUE if ours.queue == DRAIN_QUEUE else DRAIN_QUEUE)


def test_cycles_are_collected_after_a_job(runtime: Runtime, queue: Queue) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    gc.disable()
    try:
        left = weakref.ref(Cycle())
        queue.enqueue_call("workers.jobs.apply_retention", result_ttl=0)
        assert left() is not None
        assert work(runtime) == []
        assert left() is None
    finally:
        gc.enable()


def test_own_job_runs_and_leaves_nothing(runtime: Runtime) -> None:
    JobQueue(runtime.redis).enqueue(MirrorJob.DRAIN)
    assert work(runtime, DRAIN_QUEUE) == []
    assert not runtime.redis.exists(MirrorJob.DRAIN.flag)
    assert nothing_is_left(runtime)

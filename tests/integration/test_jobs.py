"""The producer of jobs: each name means a function, one that waits is not queued twice, nothing piles up."""

from __future__ import annotations

import inspect
import json
import zlib
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from rq.serializers import JSONSerializer

from service.broker.client import connect_redis
from service.broker.jobs import DRAIN_QUEUE, JOB_TIMEOUT_SECONDS, MAX_QUEUED_JOBS, WORK_QUEUE, Job, JobQueue, rq_queue
from service.errors import RedisUnavailable
from tests.support.processes import eventually
from workers import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect_redis(redis_url) as opened:
        yield opened


@pytest.fixture
def asked(client: redis.Redis) -> JobQueue:
    return JobQueue(client)


@pytest.mark.parametrize("job", Job)
def test_every_job_names_a_function_that_takes_its_arguments(job: Job) -> None:
    module, _, name = job.function.rpartition(".")
    inspect.signature(getattr(import_module(module), name)).bind(*job.arguments)


def test_drains_have_a_queue_of_their_own() -> None:
    assert [job for job in Job if job.queue == DRAIN_QUEUE] == [Job.DRAIN]
    assert {job.queue for job in Job} == {DRAIN_QUEUE, WORK_QUEUE}


def test_every_job_ends_long_before_rq_would_kill_it() -> None:
    assert max(jobs.DRAIN_SECONDS, jobs.SLICE_SECONDS) < 30 < JOB_TIMEOUT_SECONDS


@pytest.mark.parametrize("job", Job)
def test_a_job_that_waits_is_not_queued_twice(asked: JobQueue, client: redis.Redis, job: Job) -> None:
    assert asked.enqueue(job)
    assert not asked.enqueue(job)
    assert rq_queue(client, job.queue).count == 1


def test_a_job_that_began_may_be_asked_for_again(asked: JobQueue, client: redis.Redis) -> None:
    assert asked.enqueue(Job.PULL_FULL)
    asked.clear_flag(Job.PULL_FULL)
    assert asked.enqueue(Job.PULL_FULL)
    assert rq_queue(client, WORK_QUEUE).count == 2


@pytest.mark.parametrize("job", Job)
def test_the_flag_of_a_job_that_was_lost_expires(asked: JobQueue, client: redis.Redis, job: Job) -> None:
    asked.enqueue(job)
    left = client.pttl(job.flag)
    assert isinstance(left, int)
    assert 0 < left <= 30_000
    # As if that time were over, and the queue lost.
    client.flushall()
    assert asked.enqueue(job)


def test_jobs_do_not_keep_each_other_from_being_asked_for(asked: JobQueue) -> None:
    assert [asked.enqueue(job) for job in Job] == [True] * len(Job)


def test_one_waiting_drain_is_enough_whatever_became_of_its_flag(asked: JobQueue, client: redis.Redis) -> None:
    asked.enqueue(Job.DRAIN)
    asked.clear_flag(Job.DRAIN)
    assert not asked.enqueue(Job.DRAIN)
    assert rq_queue(client, DRAIN_QUEUE).count == 1


def test_a_queue_without_a_worker_does_not_grow_for_ever(asked: JobQueue, client: redis.Redis) -> None:
    for _ in range(MAX_QUEUED_JOBS + 10):
        asked.enqueue(Job.REFETCH)
        asked.clear_flag(Job.REFETCH)
    assert rq_queue(client, WORK_QUEUE).count == MAX_QUEUED_JOBS


def test_jobs_are_json_and_leave_nothing_behind(asked: JobQueue, client: redis.Redis) -> None:
    asked.enqueue(Job.PULL_HOT)
    (waiting,) = rq_queue(client, WORK_QUEUE).jobs
    assert (waiting.func_name, waiting.args, waiting.result_ttl) == ("workers.jobs.pull", ["hot"], 0)
    assert waiting.serializer is JSONSerializer
    (key,) = client.keys("rq:job:*")
    assert json.loads(zlib.decompress(client.hget(key, "data")))[0] == "workers.jobs.pull"


def test_asking_without_redis_is_an_error_of_ours() -> None:
    with connect_redis("redis://127.0.0.1:9") as nobody, pytest.raises(RedisUnavailable):
        JobQueue(nobody).enqueue(Job.DRAIN)
    with connect_redis("redis://127.0.0.1:9") as nobody, pytest.raises(RedisUnavailable):
        JobQueue(nobody).clear_flag(Job.DRAIN)


def test_a_drain_is_asked_for_again_once_its_flag_has_expired(asked: JobQueue, client: redis.Redis) -> None:
    # A worker took the job and died before it began: nothing waits, only the flag is left.
    asked.enqueue(Job.DRAIN)
    rq_queue(client, DRAIN_QUEUE).empty()
    assert not asked.enqueue(Job.DRAIN)
    assert eventually(lambda: asked.enqueue(Job.DRAIN), 10)

"""Leases: which process holds one, when another may, and how the lease of a dead or stopped one ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from service.broker.client import connect_redis
from service.broker.jobs import WORK_QUEUE, Job, JobQueue, rq_queue
from service.broker.lease import Lease
from service.errors import PostgresUnavailable, RedisUnavailable
from service.storage import database
from service.storage.database import transaction
from tests.support.mirror import SINGLE, Mirror
from tests.support.processes import eventually
from workers import jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis
    from sqlalchemy import Engine

KEY = "headshotpro:running:refetch"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect_redis(redis_url) as opened:
        yield opened


def test_one_has_it_until_it_lets_go(client: redis.Redis) -> None:
    one, other = Lease(client, KEY, "elsewhere:1:a", 20), Lease(client, KEY, "elsewhere:2:b", 20)
    assert one.acquire()
    assert not other.acquire()
    # It keeps holding it, and no other process releases it.
    other.release()
    assert one.acquire()
    one.release()
    assert other.acquire()
    assert not one.acquire()


def test_it_ends_by_itself(client: redis.Redis) -> None:
    assert Lease(client, KEY, "elsewhere:1:a", 0.2).acquire()
    assert eventually(Lease(client, KEY, "elsewhere:2:b", 20).acquire)


def test_renewed_lease_outlives_its_time(client: redis.Redis) -> None:
    one, other = Lease(client, KEY, "elsewhere:1:a", 1), Lease(client, KEY, "elsewhere:2:b", 20)
    assert one.acquire()
    before = client.pttl(KEY)
    assert eventually(lambda: client.pttl(KEY) < before - 200)
    assert one.acquire()
    assert client.pttl(KEY) > before - 200
    assert not other.acquire()


def test_lease_that_expired_is_lost_and_can_be_taken_again(client: redis.Redis) -> None:
    one, other = Lease(client, KEY, "elsewhere:1:a", 0.2), Lease(client, KEY, "elsewhere:2:b", 20)
    assert one.acquire()
    assert eventually(other.acquire)
    assert not one.acquire()
    # It does not release a lease that it has lost.
    one.release()
    assert not one.acquire()
    other.release()
    assert one.acquire()


@pytest.mark.parametrize("wrong", [b"by hand", ["a", "list"]])
def test_key_of_a_lease_that_never_ends_is_taken_over(client: redis.Redis, wrong: bytes | list[str]) -> None:
    one = Lease(client, KEY, "elsewhere:1:a", 0.2)
    if isinstance(wrong, list):
        client.rpush(KEY, *wrong)
    else:
        client.set(KEY, wrong)
    assert not one.acquire()
    assert eventually(one.acquire)


def test_flag_of_a_job_that_never_falls_is_removed(client: redis.Redis) -> None:
    queue = JobQueue(client)
    client.set(Job.REFETCH.flag, "by hand")
    assert not queue.enqueue(Job.REFETCH)
    assert queue.enqueue(Job.REFETCH)


def test_lease_without_redis_is_unavailable() -> None:
    with connect_redis("redis://127.0.0.1:9") as nobody:
        for step in (Lease(nobody, KEY, "elsewhere:1:a", 20).acquire,):
            with pytest.raises(RedisUnavailable):
                step()


@pytest.mark.parametrize("job", [jobs.refetch, jobs.sweep, jobs.count_missed, jobs.apply_retention])
def test_work_of_a_kind_is_left_to_the_process_that_is_at_it(mirrored: Mirror, job: Callable[[], None]) -> None:
    runtime = mirrored.runtime
    jobs.install(runtime)
    asked = mirrored.request_counts(SINGLE).total()
    mirrored.sql(
        "insert into headshotpro.refetch_requests (model_id, reason, due_at, after) "
        "select id, 'test', now(), now() from headshotpro.models limit 1"
    )
    name = f"headshotpro:running:{job.__name__}"
    other = Lease(runtime.redis, name, "elsewhere:1:a", 600)
    assert other.acquire()
    before = written(mirrored)
    job()
    assert mirrored.request_counts(SINGLE).total() == asked
    assert written(mirrored) == before
    other.release()
    job()
    # It may be done again by the next one.
    assert not runtime.redis.exists(name)
    if job is jobs.refetch:
        assert mirrored.request_counts(SINGLE).total() > asked


def written(mirrored: Mirror) -> int:
    """How many transactions have written."""
    (row,) = mirrored.sql("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next")
    return int(row["next"])


def test_flag_of_a_lost_job_expires_within_ten_seconds(client: redis.Redis) -> None:
    queue = JobQueue(client)
    for job in Job:
        assert queue.enqueue(job)
        left = client.pttl(job.flag)
        assert isinstance(left, int)
        assert left <= 10_000
    assert rq_queue(client, WORK_QUEUE).count > 0


def test_stalled_process_loses_its_transaction_and_its_lock(database_url: str) -> None:
    engine = database.connect(database_url)
    with pytest.raises(PostgresUnavailable):
        stand_still(engine)
    with transaction(engine, seconds=5) as connection:
        connection.execute(text("select pg_advisory_xact_lock(1)"))
    engine.dispose()


def stand_still(engine: Engine) -> None:
    """Hold a lock, and come back too late."""
    with transaction(engine) as connection:
        for name, value in database.SETTINGS.items():
            assert connection.execute(text(f"show {name}")).scalar() == value, name
        connection.execute(text("select pg_advisory_xact_lock(1)"))
        # This takes ten seconds otherwise.
        connection.execute(text("set local idle_in_transaction_session_timeout = '100ms'"))
        time.sleep(0.5)
        connection.execute(text("select 1"))

"""The jobs that are due follow from Postgres and Redis alone, also after restarts, kills and lost wake-ups."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from service.broker.inbox import Delivery
from service.broker.jobs import DRAIN_QUEUE, WORK_QUEUE, Job, rq_queue
from service.config import Settings
from service.mirror.pull_slice import FULL, HOT
from service.runtime import Runtime
from service.storage import pull_checkpoints
from service.storage.database import transaction
from tests.support.processes import eventually
from tests.support.system import NOWHERE, System, event_body, new_id
from workers.clock import LEASE_KEY, LEASE_SECONDS, Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Process = Callable[..., Runtime]


@pytest.fixture
def process(database_url: str, redis_url: str) -> Iterator[Process]:
    """Builds processes of one deployment; its upstream is never asked."""
    built: list[Runtime] = []

    def build(**settings: Any) -> Runtime:
        given = {"database_url": database_url, "redis_url": redis_url, "headshotpro_api_url": NOWHERE}
        built.append(Runtime.build(Settings(**{**given, **settings})))
        return built[-1]

    yield build
    for runtime in built:
        runtime.engine.dispose()
        runtime.redis.close()


def asked(runtime: Runtime) -> set[str]:
    """The jobs that a clock that starts now asks for; afterwards it is as if a worker had begun all of them."""
    clock = Clock(runtime)
    clock.tick()
    clock.release()
    names: set[str] = set()
    for name in (DRAIN_QUEUE, WORK_QUEUE):
        queue = rq_queue(runtime.redis, name)
        names.update(str(job.description) for job in queue.jobs)
        queue.delete(delete_jobs=True)
    for job in Job:
        runtime.queue.clear_flag(job)
    return names


def execute(runtime: Runtime, statement: str) -> None:
    with transaction(runtime.engine) as connection:
        connection.exec_driver_sql(statement)


def pulled(runtime: Runtime, kind: str, seconds_ago: float, status: str = "complete") -> None:
    """Record a pull that started this many seconds ago."""
    execute(
        runtime,
        "insert into headshotpro.pulls (kind, status, started_at, finished_at, webhooks_checked_at) "
        f"values ('{kind}', '{status}', now() - interval '{seconds_ago} seconds', now(), now())",
    )


# --- pulls


def test_hot_pulls_wait_for_the_first_full_one(process: Process) -> None:
    # Accuracy checks come at random times.
    runtime = process(accuracy_budget=0.0)
    always = {"apply_retention", "compute_accuracy"}
    assert asked(runtime) == {"pull_full", *always}
    # One that failed is no reason to ask again at once, and none for a hot one.
    pulled(runtime, FULL, 1, "failed")
    assert asked(runtime) == always
    pulled(runtime, FULL, 1)
    assert asked(runtime) == {"pull_hot", *always}


def test_a_restart_does_not_pull_before_the_interval_is_over(process: Process) -> None:
    runtime = process(pull_interval_seconds=900, hot_pull_interval_seconds=120)
    pulled(runtime, FULL, 840)
    pulled(runtime, HOT, 60)
    for _ in range(3):
        assert not asked(runtime) & {"pull_full", "pull_hot"}
    execute(runtime, "update headshotpro.pulls set started_at = started_at - interval '66 seconds'")
    assert asked(runtime) >= {"pull_full", "pull_hot"}


@pytest.mark.parametrize(("interval", "latest"), [(900, 5.0), (10, 0.2), (0, 0.0)])
def test_pulls_start_late_by_five_seconds_at_most(process: Process, interval: float, latest: float) -> None:
    runtime = process()
    late = []
    for _ in range(20):
        execute(runtime, "delete from headshotpro.pulls")
        pulled(runtime, FULL, interval + latest + 0.01)
        low, high = 0.0, latest
        with transaction(runtime.engine) as connection:
            assert pull_checkpoints.due(connection, FULL, interval)
            # `now()` is the same in all of a transaction.
            while high - low > 0.01:
                middle = (low + high) / 2
                connection.execute(
                    text("update headshotpro.pulls set started_at = now() - make_interval(secs => :age)"),
                    {"age": interval + middle},
                )
                low, high = (low, middle) if pull_checkpoints.due(connection, FULL, interval) else (middle, high)
        late.append(high)
    assert max(late) <= latest
    assert max(late) - min(late) >= latest / 3


def test_an_interval_of_0_turns_hot_pulls_off(process: Process) -> None:
    runtime = process(hot_pull_interval_seconds=0)
    pulled(runtime, FULL, 800)
    assert "pull_hot" not in asked(runtime)


def test_a_pull_that_a_dead_process_left_is_taken_up_again(process: Process) -> None:
    runtime = process()
    pulled(runtime, FULL, 20, "running")
    execute(
        runtime,
        "insert into headshotpro.pull_checkpoints (pull_id, kind, holder, leased_until, state) "
        "select id, kind, 'dead', now() + interval '1 hour', '{}' from headshotpro.pulls",
    )
    assert "pull_full" not in asked(runtime)
    execute(runtime, "update headshotpro.pull_checkpoints set leased_until = now()")
    assert "pull_full" in asked(runtime)


# --- events and questions


def test_a_wake_up_that_was_lost_is_made_good(process: Process) -> None:
    runtime = process()
    asked(runtime)
    # A delivery whose wake-up never came.
    runtime.inbox.put(Delivery.arrived(event_body(new_id()), int(time.time()), datetime.now(UTC)))
    assert "drain" in asked(runtime)
    # And one whose job was lost with the worker that took it: the flag that it waits has been set for a while.
    runtime.queue.enqueue(Job.DRAIN)
    queue = rq_queue(runtime.redis, DRAIN_QUEUE)
    queue.delete(delete_jobs=True)
    clock = Clock(runtime)

    def asked_again() -> bool:
        clock.tick()
        return queue.count > 0

    assert eventually(asked_again, 8)


def test_refetch_request_is_sent_when_it_is_due(process: Process) -> None:
    runtime = process()
    execute(
        runtime,
        "insert into headshotpro.refetch_requests (model_id, reason, due_at) "
        "values ('m', 'profile', now() + interval '1 hour')",
    )
    assert "refetch" not in asked(runtime)
    execute(runtime, "update headshotpro.refetch_requests set due_at = now()")
    assert "refetch" in asked(runtime)


# --- clocks that die


@pytest.mark.long
def test_another_clock_takes_over_when_the_acting_one_is_killed(
    database_url: str, redis_url: str, process: Process, folder: Path
) -> None:
    redis: Any = process().redis

    def holder() -> str:
        return (redis.get(LEASE_KEY) or b"").decode()

    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url) as system:
        clocks = [system.start("clock"), system.start("clock")]
        assert eventually(holder), [clock.said for clock in clocks]
        acting = holder()
        killed, other = sorted(clocks, key=lambda clock: f":{clock.process.pid}:" not in acting)
        killed.process.kill()
        killed.process.wait()
        # Its lease ends within 30 s; the test does not wait for that.
        assert 0 < redis.pttl(LEASE_KEY) <= LEASE_SECONDS * 1000 < 30_000
        redis.pexpire(LEASE_KEY, 100)
        assert eventually(lambda: f":{other.process.pid}:" in holder()), other.said
        assert other.stop() == 0
        assert holder() == ""

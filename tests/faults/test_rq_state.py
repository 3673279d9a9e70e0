"""The inbox is drained in every state of RQ's records, after kills or changes by hand."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rq import Queue
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from service.broker import inbox
from service.broker.client import connect_redis
from service.broker.jobs import DRAIN_QUEUE, Job
from service.local.servers import Valkey
from tests.support.processes import eventually
from tests.support.system import System, event_body, model_row, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from service.local.servers import Postgres

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("rq state")


def lost_wake_up(client: redis.Redis, _queue: Queue) -> None:
    """The flag says that a drain waits, and none does: its worker was killed before it began, or Redis lost the job."""
    client.set(Job.DRAIN.flag, 1, px=Job.DRAIN.flag_ms)


def started_for_ever(_client: redis.Redis, queue: Queue) -> None:
    """A drain that a killed worker has begun, and that counts as running for a year."""
    job = queue.enqueue_call(Job.DRAIN.function)
    queue.remove(job)
    StartedJobRegistry(queue=queue).connection.zadd(f"rq:wip:{queue.name}", {f"{job.id}:gone": 4_000_000_000})


def failed(_client: redis.Redis, queue: Queue) -> None:
    """A thousand drains that failed."""
    registry = FailedJobRegistry(queue=queue)
    for number in range(1000):
        registry.connection.zadd(registry.key, {f"failed-{number}": 4_000_000_000})


def without_job(client: redis.Redis, queue: Queue) -> None:
    """The queue names jobs that are not there."""
    client.rpush(queue.key, *(f"gone-{number}" for number in range(50)))


def not_ours(_client: redis.Redis, queue: Queue) -> None:
    """Jobs that cannot be run wait before ours."""
    queue.enqueue_call("workers.jobs.no_such_job")
    queue.enqueue_call("os.getpid", args=("too", "many"))


def not_json(client: redis.Redis, queue: Queue) -> None:
    """A job that another serializer wrote."""
    client.hset("rq:job:pickled", mapping={"data": b"\x80\x04N.", "origin": queue.name, "status": "queued"})
    client.rpush(queue.key, "pickled")


STATES = (lost_wake_up, started_for_ever, failed, without_job, not_ours, not_json)


@pytest.fixture(scope="module")
def system(postgres: Postgres) -> Iterator[System]:
    """Web, worker and clock over a Redis of their own; every test leaves them running."""
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    with (
        Valkey.start(folder / "valkey", sync="no") as valkey,
        System(folder, DATABASE_URL=postgres.url, REDIS_URL=valkey.url) as running,
    ):
        running.start_all()
        yield running
    shutil.rmtree(folder)


@pytest.mark.parametrize("bring_about", STATES, ids=lambda state: state.__name__)
def test_the_inbox_is_drained_whatever_rq_remembers(
    bring_about: Callable[[redis.Redis, Queue], None], system: System
) -> None:
    model = new_id()
    with connect_redis(system.settings["REDIS_URL"] or "") as client:
        bring_about(client, Queue(DRAIN_QUEUE, connection=client, serializer=JSONSerializer))
        assert system.deliver(event_body(model)).status == 202
        assert eventually(lambda: model_row(system.settings["DATABASE_URL"] or "", model)), system.logs()
        assert eventually(lambda: inbox.Inbox(client).depth().events == 0), system.logs()

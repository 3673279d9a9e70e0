"""Two organizations' deployments on one Postgres and one Redis: neither ever sees what is the other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from rq.registry import FailedJobRegistry

from service.broker.inbox import Inbox
from service.broker.jobs import DRAIN_QUEUE, Job, JobQueue, rq_queue
from tests.support.drainer import Drainer, opened
from tests.support.processes import eventually
from tests.support.servers import new_database
from tests.support.system import System, event_body, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.local.servers import Postgres


class Deployment(NamedTuple):
    """One organization's database of each server, and its worker.

    Attributes:
        here: its database and its Redis, seen by the test.
        system: its processes.
    """

    here: Drainer
    system: System


@pytest.fixture
def neighbours(postgres: Postgres, redis_url: str, folder: Path) -> Iterator[tuple[Deployment, Deployment]]:
    """Each with a database of Postgres and a number of Redis of its own, and a worker that runs."""
    addresses = (redis_url, redis_url.rpartition("/")[0] + "/15")
    with new_database(postgres) as one, new_database(postgres) as other:
        both = []
        for url, address in zip((one, other), addresses, strict=True):
            place = folder / str(len(both))
            place.mkdir()
            both.append((opened(url, address), System(place, DATABASE_URL=url, REDIS_URL=address)))
        (first, a), (second, b) = both
        with first as here, second as there, a, b:
            for system in (a, b):
                system.start("worker")
            yield Deployment(here, a), Deployment(there, b)


@pytest.mark.long
def test_what_happens_in_one_deployment_is_not_seen_in_the_other(neighbours: tuple[Deployment, Deployment]) -> None:
    given = []
    for one in neighbours:
        models = sorted(new_id() for _ in range(20))
        one.here.put(*[event_body(model) for model in models])
        JobQueue(one.here.client).enqueue(Job.DRAIN)
        given.append(models)
    for one, models in zip(neighbours, given, strict=True):
        assert eventually(lambda one=one: len(known(one)) >= 20), one.system.logs()
        assert known(one) == models
        assert eventually(lambda one=one: Inbox(one.here.client).depth().events == 0)
        # Nor do RQ's workers know of the other's queues.
        assert eventually(lambda one=one: len(one.here.client.smembers("rq:workers")) == 2)
        assert not FailedJobRegistry(queue=rq_queue(one.here.client, DRAIN_QUEUE)).get_job_ids()


def known(one: Deployment) -> list[str]:
    """The models of a deployment."""
    return [row["id"] for row in rows(one.here.url, "select id from headshotpro.models order by id")]

"""A peer of event-to-row: one RQ job for each event, as many users would write it, run by RQ's `SimpleWorker`.

Our own worker class refuses every job that is not ours.

A job is one transaction with the floor's three statements for its one event, over a connection that the process keeps;
psycopg prepares them. Everything else is RQ's default.
"""

from __future__ import annotations

from typing import Any

import psycopg
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from bench.floor import apply
from service import config
from service.broker.client import connect_redis
from service.broker.jobs import rq_queue

QUEUE = "bench-one-job"
JOB = "bench.one_job.apply_event"

_connections: list[psycopg.Connection[Any]] = []


def apply_event(body: str) -> None:
    """The job."""
    apply(_connections[0], [body.encode()])


def main() -> None:
    """A worker of that queue alone, until SIGTERM."""
    settings = config.load(("DATABASE_URL", "REDIS_URL"))
    # RQ imports the job by its name: another module than this one, which runs as `__main__`.
    from bench import one_job

    one_job._connections.append(psycopg.connect(settings.postgres_url))
    client = connect_redis(settings.redis, timeout=None)
    worker = SimpleWorker([rq_queue(client, QUEUE)], connection=client, serializer=JSONSerializer)
    worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()

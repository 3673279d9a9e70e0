"""A peer of event-to-row: one RQ job for each event, as many users would write it, run by the worker class that we use.

A job is one transaction with the floor's three statements for its one event, over a connection that the process keeps;
psycopg prepares them. Everything else is RQ's default.
"""

from __future__ import annotations

from typing import Any

import psycopg

from service import config
from service.runtime import Runtime
from tests.bench.floor import apply
from workers.rq_worker import work

QUEUE = "bench-one-job"
JOB = "tests.bench.one_job.apply_event"

_connections: list[psycopg.Connection[Any]] = []


def apply_event(body: str) -> None:
    """The job."""
    apply(_connections[0], [body.encode()])


def _nothing() -> None:
    """Redis does not go away here."""


def main() -> None:
    """A worker of that queue alone, until SIGTERM."""
    settings = config.load(("DATABASE_URL", "REDIS_URL"))
    # RQ imports the job by its name: another module than this one, which runs as `__main__`.
    from tests.bench import one_job

    one_job._connections.append(psycopg.connect(settings.postgres_url))
    work(Runtime.build(settings), QUEUE, _nothing)


if __name__ == "__main__":
    main()

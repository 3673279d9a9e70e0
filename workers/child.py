"""One child of a worker process: `python -m workers.child QUEUE PIPE`. Started by `workers.supervisor` alone.

PIPE is the number of the descriptor on which it reports progress.
"""

from __future__ import annotations

import sys

from service import config, log
from service.broker.jobs import DRAIN_QUEUE
from service.runtime import Runtime
from service.storage.database import on_statement_executed

# The jobs are imported before the first one comes, which else would wait for that.
from workers import jobs
from workers.progress import ProgressReporter
from workers.rq_worker import work
from workers.shutdown import start_exit_watchdog


def main(queue: str, pipe: int | None = None) -> None:
    """Run the jobs of one queue, and report progress on a pipe."""
    settings = config.load(("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY"))
    log.configure(settings)
    log.log_crashes_without_messages()
    runtime = Runtime.build(settings)
    runtime.progress = ProgressReporter(pipe)
    on_statement_executed(runtime.engine, runtime.progress)
    jobs.install(runtime)
    # The supervisor that would end it may be gone.
    start_exit_watchdog(runtime.stop)
    work(runtime, queue, jobs.drain_without_redis if queue == DRAIN_QUEUE else _nothing)


def _nothing() -> None:
    """Other work needs Redis: the request budget is there."""


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))

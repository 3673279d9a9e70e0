"""One child of a worker process: `python -m workers.child QUEUE PIPE`. Started by `workers.supervisor` alone.

PIPE is the number of the descriptor on which it reports progress.
"""

from __future__ import annotations

import sys

from service import config, log
from service.broker.jobs import DRAIN_QUEUE
from service.runtime import Runtime
from service.storage.database import after_statement

# The jobs are imported before the first one comes, which else would wait for that.
from workers import jobs
from workers.progress import Reporter
from workers.rq_worker import work
from workers.shutdown import end_when_stuck


def main(queue: str, pipe: int | None = None) -> None:
    """Run the jobs of one queue, and report progress on a pipe."""
    settings = config.load(("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY"))
    log.configure(settings)
    log.hide_words_of_crashes()
    runtime = Runtime.build(settings)
    runtime.progress = Reporter(pipe)
    after_statement(runtime.engine, runtime.progress)
    jobs.install(runtime)
    # The supervisor that would end it may be gone.
    end_when_stuck(runtime.stop)
    work(runtime, queue, jobs.drain_without_redis if queue == DRAIN_QUEUE else _nothing)


def _nothing() -> None:
    """Other work needs Redis: the request budget is there."""


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))

"""Tasks of the console in a test's hands: run by this process, one slice or all, with their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.mirror import tasks
from tests.support.drainer import TOLERANCE
from workers import jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.upstream.client import UpstreamClient
    from tests.support.mirror import Mirror


def context_of(
    mirror: Mirror, may_go_on: Callable[[], bool], client: UpstreamClient | None = None
) -> tasks.TaskContext:
    """What a slice of a task needs."""
    runtime = mirror.runtime
    return tasks.TaskContext(runtime.engine, client or runtime.client, runtime.requests_sent, TOLERANCE, may_go_on)


def times(number: int, then: Callable[[], object] = lambda: None) -> Callable[[], bool]:
    """True this often; then something happens, and it is False."""
    left = iter(range(number))

    def may_go_on() -> bool:
        if next(left, None) is not None:
            return True
        then()
        return False

    return may_go_on


def run_tasks(mirror: Mirror) -> None:
    """Run a worker's job of tasks once."""
    jobs.install(mirror.runtime)
    jobs.run_tasks()


def task(mirror: Mirror) -> dict[str, Any]:
    """The row of the only task."""
    (found,) = mirror.sql("select * from headshotpro.tasks")
    return found


def acts(mirror: Mirror) -> list[dict[str, Any]]:
    """The rows of the audit log."""
    return mirror.sql("select * from headshotpro.audit_log order by id")

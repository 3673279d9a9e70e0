"""The schedule, as one table. The jobs that are due follow from Postgres and Redis, not from the age of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.broker.jobs import Job
from service.mirror import sampling
from service.mirror.pull_slice import FULL, HOT
from service.storage import accuracy, models, pull_checkpoints, pulls, refetches, spool, tasks
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from service.runtime import Runtime


# At most one accuracy check in this time.
ACCURACY_CHECK_SECONDS = 1.0


class ScheduledJob(NamedTuple):
    """A line of the schedule. `every` is the seconds between two checks whether it is due."""

    job: Job
    every: float
    due: Callable[[Runtime], bool]


def _in_postgres(check: Callable[[Connection], bool]) -> Callable[[Runtime], bool]:
    """A check of Postgres alone."""

    def due(runtime: Runtime) -> bool:
        with transaction(runtime.engine) as connection:
            return check(connection)

    return due


def _full_pull(runtime: Runtime) -> bool:
    with transaction(runtime.engine) as connection:
        return pull_checkpoints.due(connection, FULL, runtime.settings.pull_interval_seconds)


def _hot_pull(runtime: Runtime) -> bool:
    """Hot pulls wait for the first full one: before it, it shows the same models and more."""
    interval = runtime.settings.hot_pull_interval_seconds
    with transaction(runtime.engine) as connection:
        return interval > 0 and pulls.any_complete(connection) and pull_checkpoints.due(connection, HOT, interval)


def _details(runtime: Runtime) -> bool:
    """Details are read once the models are known, again after each pull."""
    if runtime.settings.detail_budget <= 0:
        return False
    with transaction(runtime.engine) as connection:
        since = pulls.newest_began_at(connection)
        return since is not None and bool(models.details_to_read(connection, since, 1))


def _accuracy_check(runtime: Runtime) -> bool:
    """Accuracy is checked at random times, from the first complete pull on."""
    settings = runtime.settings
    if not sampling.is_due(settings.rate_budget, settings.accuracy_budget, ACCURACY_CHECK_SECONDS):
        return False
    with transaction(runtime.engine) as connection:
        return pulls.any_complete(connection)


SCHEDULE = (
    # A wake-up that was lost costs a second or two.
    ScheduledJob(Job.DRAIN, 1.0, lambda runtime: runtime.inbox.depth().events > 0),
    ScheduledJob(Job.DRAIN, 1.0, _in_postgres(spool.any_waiting)),
    ScheduledJob(Job.REFETCH, 1.0, _in_postgres(refetches.due)),
    ScheduledJob(Job.REFETCH, 1.0, lambda runtime: bool(runtime.stale_models.waiting())),
    ScheduledJob(Job.PULL_FULL, 2.0, _full_pull),
    ScheduledJob(Job.PULL_HOT, 2.0, _hot_pull),
    ScheduledJob(Job.RUN_TASKS, 1.0, _in_postgres(tasks.any_running)),
    ScheduledJob(Job.SWEEP, 5.0, _details),
    ScheduledJob(Job.COUNT_MISSED, 30.0, _in_postgres(accuracy.any_undecided)),
    ScheduledJob(Job.CHECK_ACCURACY, ACCURACY_CHECK_SECONDS, _accuracy_check),
    ScheduledJob(Job.COMPUTE_ACCURACY, 60.0, lambda _runtime: True),
    ScheduledJob(Job.APPLY_RETENTION, 60.0, lambda _runtime: True),
)

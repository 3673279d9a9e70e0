"""The jobs: RQ calls them by name, and each calls the application. Short slices, and an end for every wait.

Why: `docs/decisions/0003-an-inbox-and-few-jobs.md`.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import structlog

from service.broker.counters import EVENT_TO_ROW, EVENTS
from service.broker.jobs import Job
from service.broker.lease import Lease
from service.errors import LeaseLost, PostgresUnavailable, RedisUnavailable, Stopping, Unavailable, WrongKeyType
from service.mirror import accuracy_figures, batches, census, detail_sweep, retention, sampling, webhooks
from service.mirror import drain as mirror_drain
from service.mirror.pull import advance
from service.mirror.pull_slice import FULL
from service.mirror.refetch import refetch as refetch_due_models
from service.mirror.refetch import request_stale_models
from service.mirror.tasks import TaskContext, run_slice
from service.storage import event_lags, pull_checkpoints, refetches, status_report, tasks
from service.storage.database import WHOLE_TABLE_SECONDS, transaction
from workers.job_errors import redact_job_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from service.broker.inbox import Delivery
    from service.mirror.drain import DrainResult
    from service.mirror.webhooks import Event
    from service.runtime import Runtime

log = structlog.get_logger(__name__)

# A drain ends within this even under load, so that RQ's own housekeeping gets its turn.
DRAIN_SECONDS = 25.0
# So near to its end a drain reads nothing ahead: what it could not apply any more would wait for the next one.
AHEAD_SECONDS = 5.0
# How long an idle drain listens for more: as long as events keep coming, no job has to be queued for them.
LINGER_MS = 1000
# Pulls and refetches of one worker take turns by slices of this length.
SLICE_SECONDS = 5.0
# `pull_now` goes on with its pull for this long at most, and begins no second one.
LONGEST_PULL_SECONDS = 3600.0
# A task waits while this many events wait.
MAX_EVENTS_AHEAD = 500
# While Postgres is unavailable a drain tries again after this.
STORAGE_PAUSE_SECONDS = 1.0

# The process that holds the lease of a kind of work keeps it for this long: a slice and its last request.
EXCLUSIVE_LEASE_SECONDS = 20.0

# RQ calls jobs by name, without our dependencies: the one runtime of the process is kept here.
_installed: list[Runtime] = []


def install(runtime: Runtime) -> None:
    """Make a runtime the one that this process's jobs use."""
    _installed[:] = [runtime]


def current() -> Runtime:
    """This process's runtime."""
    return _installed[0]


@redact_job_errors
def drain() -> None:
    """Apply what the spool and the inbox hold, until both are empty or the slice is over."""
    runtime = current()
    runtime.queue.clear_flag(Job.DRAIN)
    deadline = monotonic() + DRAIN_SECONDS
    spooled, left, size = True, False, batches.BATCH_SIZE
    ahead: Future[_Read] | None = None
    with ThreadPoolExecutor(1, "reading-ahead") as reading:
        while not runtime.stop.is_set() and monotonic() < deadline:
            spooled = spooled and _apply_spooled(runtime)
            found = ahead.result() if ahead else _read(runtime, size, 0 if spooled else LINGER_MS)
            runtime.progress()
            # Events that were left can be read again after a few seconds.
            if not found.ids and not spooled and not left:
                return
            full = len(found.ids) == size
            size = batches.next_size(size, full=full)
            ahead = None
            if full and monotonic() < deadline - AHEAD_SECONDS:
                # The next batch is read while this one is applied.
                ahead = reading.submit(_read, runtime, size, 0, found.ids)
            for batch in found.batches:
                left = _apply(runtime, batch, deadline) or left
    if not runtime.stop.is_set():
        runtime.queue.enqueue(Job.DRAIN)


class _Batch(NamedTuple):
    """What one transaction applies: entries, and their events where they were parsed already."""

    entries: list[Delivery]
    events: list[Event] | None = None


class _Read(NamedTuple):
    """What was read of the inbox: the ids of all entries, and batches of those that the batch before has not."""

    ids: set[str]
    batches: list[_Batch]


def _read(runtime: Runtime, size: int, wait_ms: int, applied: Collection[str] = ()) -> _Read:
    """Read entries and parse them, but for those of the batch before.

    Entries of a batch that takes longer than they may be in flight are taken over from ourselves.
    """
    entries = runtime.inbox.read(size, wait_ms)
    new = [entry for entry in entries if entry.entry_id not in applied]
    return _Read(
        {entry.entry_id for entry in entries},
        [_Batch(batch, webhooks.read(batch, runtime.tolerance)) for batch in batches.split(new)],
    )


def drain_without_redis() -> None:
    """Apply the deliveries in the spool: while Redis is unavailable no job runs, and the mirror still has to move."""
    runtime = current()
    while not runtime.stop.is_set() and _apply_spooled(runtime):
        pass


def _apply_spooled(runtime: Runtime) -> bool:
    """Apply a batch of the spool; whether there was one. Without Postgres there is none."""
    try:
        drained = mirror_drain.drain_spool(runtime.engine, runtime.tolerance)
    except PostgresUnavailable as error:
        log.warning("spool.waits", error=str(error))
        return False
    _count(runtime, drained)
    return bool(drained.entries)


def _apply(runtime: Runtime, batch: _Batch, deadline: float) -> bool:
    """Apply a batch, or wait for Postgres until the deadline; what is in flight then, the next drain takes over.

    Returns:
        Whether some of it is left to be read again.

    Raises:
        RedisUnavailable: what was applied could not be taken out; it will change nothing again.
    """
    left, waiting = False, deque([batch])
    while waiting and not runtime.stop.is_set():
        entries, events = waiting[0]
        try:
            drained = mirror_drain.drain_batch(runtime.engine, runtime.inbox, entries, runtime.tolerance, events)
        except PostgresUnavailable as error:
            log.warning("drain.waits", error=str(error), entries=len(entries))
            if monotonic() > deadline:
                return True
            runtime.progress()
            runtime.stop.wait(STORAGE_PAUSE_SECONDS)
            waiting.popleft()
            waiting.extendleft(_Batch(half) for half in reversed(batches.halves(entries)))
        else:
            _count(runtime, drained)
            left = left or bool(drained.left)
            waiting.popleft()
            if waiting and monotonic() > deadline:
                # Each may take as long again, and RQ ends a job that does not end by itself.
                return True
    return left


def _count(runtime: Runtime, drained: DrainResult) -> None:
    """Count the events of a batch that is committed, and how long each took from the endpoint to its row."""
    for result, number in drained.results.items():
        runtime.counters.add(EVENTS, result, amount=number)
    now = datetime.now(UTC)
    runtime.counters.observe(EVENT_TO_ROW, [(now - entry.received_at).total_seconds() for entry in drained.entries])


@redact_job_errors
def pull(kind: str) -> None:
    """Go on with a pull of a kind for a slice, if one is due."""
    settings = current().settings
    if kind == FULL:
        _pull(Job.PULL_FULL, kind, settings.pull_interval_seconds)
    else:
        _pull(Job.PULL_HOT, kind, settings.hot_pull_interval_seconds)


@redact_job_errors
def pull_now(kind: str) -> None:
    """Begin a pull of a kind, whenever the last one was, or go on with the running one for a slice."""
    _pull(Job.PULL_FULL_NOW if kind == FULL else Job.PULL_HOT_NOW, kind, 0.0)


def _pull(job: Job, kind: str, interval: float) -> None:
    runtime = current()
    runtime.queue.clear_flag(job)
    try:
        advance(runtime.pull_context(), kind, interval, SLICE_SECONDS)
        with transaction(runtime.engine) as connection:
            more = pull_checkpoints.due(connection, kind, interval or LONGEST_PULL_SECONDS)
    except LeaseLost as error:
        log.info("pull.lease_lost", reason=str(error))
        return
    except (Unavailable, Stopping) as error:
        log.warning("pull.interrupted", kind=kind, reason=str(error))
        return
    if more:
        runtime.queue.enqueue(job)


def _exclusive(job: Job) -> Callable[[Callable[[Runtime], bool]], Callable[[], None]]:
    """Decorator of a slice of a kind of work; where another process does it, that one finds all that is to do.

    The slice returns whether some is left, and then it is queued again. Not for drains, which share events out among
    all workers, nor for pulls, whose lease is in Postgres.
    """

    def decorate(work: Callable[[Runtime], bool]) -> Callable[[], None]:
        def run() -> None:
            runtime, name = current(), job.name.lower()
            runtime.queue.clear_flag(job)
            lease = Lease(runtime.redis, f"headshotpro:running:{name}", runtime.name, EXCLUSIVE_LEASE_SECONDS)
            try:
                if not lease.acquire():
                    return
                try:
                    more = work(runtime)
                finally:
                    with suppress(RedisUnavailable):
                        lease.release()
            except (Unavailable, Stopping) as error:
                log.warning("work.interrupted", kind=name, reason=str(error))
                return
            if more:
                runtime.queue.enqueue(job)

        # `wraps` would give it the argument of the work, too: RQ calls it without one.
        run.__name__, run.__doc__ = work.__name__, work.__doc__
        return redact_job_errors(run)

    return decorate


@_exclusive(Job.REFETCH)
def refetch(runtime: Runtime) -> bool:
    """Read the models whose refetch requests are due, for a slice."""
    try:
        request_stale_models(runtime.engine, runtime.stale_models)
    except WrongKeyType as error:
        # The requests in Postgres need not wait for that key.
        log.error("refetch.stale_models_unreadable", error=str(error))
    refetch_due_models(runtime.engine, runtime.client, SLICE_SECONDS)
    with transaction(runtime.engine) as connection:
        return refetches.due(connection)


@_exclusive(Job.SWEEP)
def sweep(runtime: Runtime) -> bool:
    """Read photo counts and favourites in the background, for a slice."""
    detail_sweep.sweep(runtime.engine, runtime.client, SLICE_SECONDS)
    # The clock queues the rest: it has the smallest share of the budget.
    return False


@_exclusive(Job.COUNT_MISSED)
def count_missed(runtime: Runtime) -> bool:
    """Give the differences that pulls found their classes, and count the webhooks that were late or lost."""
    known_to = census.deliveries_known_to(runtime.engine, runtime.inbox)
    return not census.classify_differences(runtime.engine, runtime.tolerance, known_to, SLICE_SECONDS)


@_exclusive(Job.CHECK_ACCURACY)
def check_accuracy(runtime: Runtime) -> bool:
    """Compare one random row with the upstream."""
    sampling.check_one(runtime.engine, runtime.client)
    return False


@_exclusive(Job.COMPUTE_ACCURACY)
def compute_accuracy(runtime: Runtime) -> bool:
    """Compute the figures of the view `accuracy`, and the lags of events in `mirror_status`."""
    # Each in a transaction of its own, so that a failure of one does not freeze the other.
    try:
        with transaction(runtime.engine, WHOLE_TABLE_SECONDS) as connection:
            accuracy_figures.compute(connection, runtime.settings.accuracy_slo)
    finally:
        with transaction(runtime.engine, WHOLE_TABLE_SECONDS) as connection:
            event_lags.compute(connection)
    return False


@_exclusive(Job.RUN_TASKS)
def run_tasks(runtime: Runtime) -> bool:
    """Do a part of what operators began in the console."""

    def may_go_on() -> bool:
        runtime.progress()
        # Webhooks first: while many of them wait, the clock queues the job again each second.
        return not runtime.stop.is_set() and runtime.inbox.depth().events < MAX_EVENTS_AHEAD

    context = TaskContext(runtime.engine, runtime.client, runtime.requests_sent, runtime.tolerance, may_go_on)
    run_slice(context, SLICE_SECONDS)
    if not may_go_on():
        return False
    with transaction(runtime.engine) as connection:
        return tasks.any_running(connection)


@_exclusive(Job.APPLY_RETENTION)
def apply_retention(runtime: Runtime) -> bool:
    """Remove what is older than its limit (personal data, events, history, checks); count models; fold outcomes."""
    settings = runtime.settings
    limits = retention.RetentionLimits(
        settings.event_retention_days, settings.history_retention_days, settings.erase_after_days
    )
    runtime.inbox.forget_dead_consumers()
    with transaction(runtime.engine) as connection:
        status_report.add_sample_if_due(connection)
    left = not retention.apply_limits(runtime.engine, limits, SLICE_SECONDS)
    return not retention.fold_outcomes(runtime.engine, SLICE_SECONDS) or left

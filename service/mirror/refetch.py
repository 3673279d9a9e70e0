"""The refetch: reads models by single GETs as refetch requests demand it, within the request budget.

A request is claimed by moving its due time, so that one that dies with its process comes due again. It is removed when
a GET was sent after its time. A 404 about a live model settles nothing: the next full pull decides.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.errors import MirrorError, ModelNotFound, PostgresUnavailable, Throttled, UpstreamError
from service.log import format_without_messages
from service.mirror.apply import merge_single
from service.mirror.deletions import proves_deletion
from service.mirror.error_scope import ErrorScope, scope_of
from service.mirror.profiles import gather
from service.model_fields import DELETED
from service.storage import merged, models, refetches
from service.storage.database import ONE_ROW_SECONDS, transaction
from service.storage.refetches import RefetchReason, RefetchRequest
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.broker.stale_models import StaleModels
    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

BATCH_SIZE = 10
# A claim holds for a slice and one response; that of a process that was killed comes due again after it.
CLAIM_SECONDS = 15.0
UNREACHABLE_PAUSE_SECONDS = 5.0
# A lock on one model is waited for this long; then the others are read.
LOCK_SECONDS = 2.0
MAX_PAUSE_SECONDS = 900.0


def request_stale_models(engine: Engine, stale_models: StaleModels) -> None:
    """Make refetch requests for models with deliveries that came too late, and take them out of Redis.

    Raises:
        PostgresUnavailable: Postgres is unavailable.
        RedisUnavailable: Redis is unavailable.
    """
    if noted := stale_models.waiting():
        now, reason = datetime.now(UTC), RefetchReason.STALE_DELIVERY
        requests = [RefetchRequest.later_than(now, model_id, reason, now) for model_id in noted]
        with transaction(engine) as connection:
            merged.add_requests(connection, requests)
        stale_models.remove(noted)


def request_if_alive(engine: Engine, model_id: str) -> None:
    """Request a GET of a model that the mirror shows alive: it shows what became of it.

    Raises:
        PostgresUnavailable: Postgres is unavailable.
    """
    now = datetime.now(UTC)
    with transaction(engine) as connection:
        row = models.read(connection, [model_id]).get(model_id)
        if row is not None and row["status"] != DELETED:
            request = RefetchRequest.later_than(now, model_id, RefetchReason.DISPUTE, now)
            merged.add_requests(connection, [request])


def refetch(engine: Engine, client: UpstreamClient, seconds: float) -> int:
    """Read the models whose refetch requests are due, for about `seconds`.

    Returns:
        How many responses were merged.

    Raises:
        PostgresUnavailable: Postgres is unavailable.
        RedisUnavailable: the Redis of the request budget is unavailable.
        Stopping: the process has to stop.
    """
    deadline = monotonic() + seconds
    read = _read_profiles(engine, client, deadline)
    while monotonic() < deadline:
        with transaction(engine) as connection:
            due = refetches.claim(connection, BATCH_SIZE, CLAIM_SECONDS)
        if not due:
            return read
        claimed = deque(due)
        pause = 0.0
        try:
            while claimed and (left := deadline - monotonic()) > 0:
                read += _refetch_one(engine, client, claimed[0], max(left, 1.0))
                claimed.popleft()
        except Throttled:
            return read
        except Exception as error:
            scope = scope_of(error)
            if scope is ErrorScope.MIRROR:
                raise
            _postpone(engine, claimed.popleft(), error)
            pause = 0.0 if scope is ErrorScope.MODEL else UNREACHABLE_PAUSE_SECONDS
        finally:
            # Those whose GET was not sent; without Postgres they come due by themselves, a little later.
            if claimed:
                with suppress(PostgresUnavailable), transaction(engine) as connection:
                    refetches.release(connection, [request.model_id for request in claimed], pause)
        if pause:
            return read
    return read


def _read_profiles(engine: Engine, client: UpstreamClient, deadline: float) -> int:
    """First read profiles from list pages; where the list cannot be read, single GETs read each model."""
    try:
        return gather(engine, client, deadline)
    except UpstreamError as error:
        log.warning("profiles.failed", error=str(error))
    except Exception as error:
        if scope_of(error) is not ErrorScope.MODEL:
            raise
        log.error("profiles.crashed", trace=format_without_messages(error))
    return 0


def _refetch_one(engine: Engine, client: UpstreamClient, request: RefetchRequest, max_wait: float) -> bool:
    """Read one model and merge the response."""
    try:
        response = client.get_model(request.model_id, priority=Priority.REFETCH, max_wait=max_wait)
    except ModelNotFound as error:
        _handle_not_found(engine, request, error)
        return False
    with transaction(engine, ONE_ROW_SECONDS, LOCK_SECONDS) as connection:
        merge_single(connection, request.model_id, response, "refetch", pull_id=request.pull_id)
        # A request that is left is tried again soon: its GET was sent a little too early, by two clocks that differ.
        refetches.postpone(connection, request.model_id, min(2.0**request.attempts, MAX_PAUSE_SECONDS))
    log.info("refetch", model_id=request.model_id, reason=request.reason)
    return True


def _handle_not_found(engine: Engine, request: RefetchRequest, error: ModelNotFound) -> None:
    """A 404 confirms a tombstone; about a live model it is kept for the next full pull."""
    with transaction(engine) as connection:
        row = models.read(connection, [request.model_id]).get(request.model_id, {})
        if row.get("status") == DELETED:
            refetches.complete(connection, [request.model_id], error.sent_at)
        counts = proves_deletion(request.model_id, row.get("created_at"), error.sent_at, error.received_at)
        missing_at = error.sent_at if counts else None
        refetches.postpone(connection, request.model_id, min(4.0 * 2**request.attempts, MAX_PAUSE_SECONDS), missing_at)
    log.info("refetch.missing", model_id=request.model_id, reason=request.reason)


def _postpone(engine: Engine, request: RefetchRequest, error: Exception) -> None:
    """Try again later, after longer each time; the log holds no values of the model."""
    if isinstance(error, MirrorError):
        reason = str(error)
    else:
        reason = f"unexpected error: {type(error).__name__}"
        log.error("refetch.crashed", model_id=request.model_id, trace=format_without_messages(error))
    with transaction(engine) as connection:
        refetches.postpone(connection, request.model_id, min(5.0 * 2**request.attempts, MAX_PAUSE_SECONDS))
    log.warning("refetch.failed", model_id=request.model_id, error=reason)

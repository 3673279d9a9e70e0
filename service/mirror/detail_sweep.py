"""The detail sweep: photo counts and favourites, read by single GETs in the background.

Each complete full pull begins a new round, in which every live model is read once, as far as the budget for details
goes. So what a lost webhook left wrong is repaired in step with the fields of the list.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.errors import MirrorError, ModelNotFound
from service.log import format_without_messages
from service.mirror.apply import merge_single
from service.mirror.error_scope import ErrorScope, scope_of
from service.storage import accuracy, merged, models, pulls
from service.storage.database import transaction
from service.storage.refetches import RefetchReason, RefetchRequest
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine

    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

BATCH_SIZE = 20


def sweep(engine: Engine, client: UpstreamClient, seconds: float) -> int:
    """Read details for about `seconds`; ends early where the budget for it is spent or nothing is left to read.

    Returns:
        How many models were read.

    Raises:
        PostgresUnavailable: Postgres is unavailable.
        RedisUnavailable: the Redis of the request budget is unavailable.
        Stopping: the process has to stop.
    """
    deadline = monotonic() + seconds
    read = 0
    while monotonic() < deadline:
        with transaction(engine) as connection:
            since = pulls.newest_began_at(connection)
            some = models.details_to_read(connection, since, BATCH_SIZE) if since else []
        failed = False
        for model_id in some:
            try:
                _read(engine, client, model_id, since)
            except Exception as error:
                scope = scope_of(error)
                if scope is ErrorScope.MIRROR:
                    raise
                if scope is not ErrorScope.MODEL:
                    return read
                # The others are read all the same.
                if isinstance(error, MirrorError):
                    log.warning("detail_sweep.failed", model_id=model_id, error=str(error))
                else:
                    log.error("detail_sweep.crashed", model_id=model_id, trace=format_without_messages(error))
                failed = True
            else:
                read += 1
        if failed or len(some) < BATCH_SIZE:
            return read
    return read


def _read(engine: Engine, client: UpstreamClient, model_id: str, since: datetime | None) -> None:
    """Read one model; after a 404 the refetch decides about it."""
    try:
        response = client.get_model(model_id, priority=Priority.DETAIL, max_wait=0.0)
    except ModelNotFound as error:
        with transaction(engine) as connection:
            models.record_details_read(connection, model_id, _no_older(error.sent_at, since))
            merged.add_requests(
                connection, [RefetchRequest(model_id, error.sent_at, RefetchReason.MISSING, error.received_at)]
            )
        return
    sent_at = _no_older(response.sent_at, since)
    with transaction(engine) as connection:
        applied = merge_single(connection, model_id, replace(response, sent_at=sent_at), "refetch")
        # A difference that the sweep repairs is counted here: no pull or sample can find it afterwards.
        accuracy.record(connection, [{**one, "method": "sweep", "with_details": True} for one in applied.differences])
        # Without this, a model whose response has none of these fields would be read again at once.
        models.record_details_read(connection, model_id, sent_at)


def _no_older(sent_at: datetime, since: datetime | None) -> datetime:
    """It was sent after the pull's first page, whatever the whole seconds of two `Date`s make of them."""
    return max(sent_at, since or sent_at)

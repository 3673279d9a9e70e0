"""The detail sweep: photo counts and favourites, read by single GETs in the background."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.errors import KeyRejected, ModelNotFound, Throttled, UpstreamError, UpstreamUnreachable
from service.mirror.apply import Sighting, apply
from service.mirror.observe import from_single
from service.storage import models, wishes
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

AT_A_TIME = 20


def sweep(engine: Engine, client: UpstreamClient, seconds: float) -> int:
    """Read details for about `seconds`; ends early where the budget for it is spent or nothing is left to read.

    Returns:
        How many models were read.

    Raises:
        StorageUnavailable: Postgres is gone.
        InboxUnavailable: the Redis of the request budget is gone.
        Stopping: the process is asked to stop.
    """
    deadline = monotonic() + seconds
    read = 0
    while monotonic() < deadline:
        with transaction(engine) as connection:
            some = models.details_to_read(connection, AT_A_TIME)
        failed = False
        for model_id in some:
            try:
                _read(engine, client, model_id)
            except (Throttled, KeyRejected, UpstreamUnreachable):
                return read
            except UpstreamError as error:
                # It may be this model's own fault: it must not keep the others from being read.
                log.warning("sweep.failed", model_id=model_id, error=str(error))
                failed = True
            else:
                read += 1
        if failed or not some:
            return read
    return read


def _read(engine: Engine, client: UpstreamClient, model_id: str) -> None:
    """Read one model; a 404 is a question for the refetch, which knows what to make of it."""
    try:
        answer = client.get_model(model_id, priority=Priority.DETAIL, patience=0.0)
    except ModelNotFound as error:
        with transaction(engine) as connection:
            models.details_read(connection, model_id, error.sent_at)
            wishes.ask(connection, [wishes.Wish(model_id, error.sent_at, "missing", error.answered_at)])
        return
    with transaction(engine) as connection:
        apply(connection, [Sighting(from_single(model_id, answer.body, answer.sent_at, answer.answered_at), "refetch")])
        # An answer without these fields would else be asked for again at once.
        models.details_read(connection, model_id, answer.sent_at)
        wishes.settle(connection, [model_id], answer.sent_at)

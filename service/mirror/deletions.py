"""Deletion by evidence: a model that a pull did not show is only a suspect.

A single GET decides about it, and a person where there are too many of them. A 404 alone is no evidence: replicas lag,
and vendors have bad hours. It counts for a model that a complete walk did not show; without one it is only kept, and
the next full pull decides.

Why: `docs/decisions/0007-deletion-by-evidence.md`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import structlog

from service.errors import ModelNotFound, UpstreamError, UpstreamFailed
from service.mirror.apply import apply, merge_single
from service.mirror.error_scope import ErrorScope, scope_of
from service.mirror.merging_batch import BatchResult
from service.mirror.observe import from_absence
from service.storage import models, refetches
from service.storage.database import transaction
from service.upstream.budget import Priority
from service.upstream.payloads import created_at_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from service.mirror.merge import Observation
    from service.mirror.pull_slice import PullState
    from service.upstream.client import UpstreamClient
    from service.upstream.payloads import DetailedModel
    from service.upstream.responses import UpstreamResponse

log = structlog.get_logger(__name__)

# The time in an ObjectId is cut to whole seconds.
ID_RESOLUTION = timedelta(seconds=1)
# Nothing was created further ahead of the response than two clocks may differ.
MAX_FUTURE = timedelta(minutes=5)


def proves_deletion(model_id: str, created_at: datetime | None, sent_at: datetime, received_at: datetime) -> bool:
    """Whether a 404 to a GET is evidence of a deletion: for a model created after the GET was sent it is not.

    A creation time in the future is no time: it would shield a model that never was from every 404. `sent_at` and
    `received_at` are the ends of the response's interval, upstream time.
    """
    future = received_at + MAX_FUTURE
    if created_at is not None:
        return created_at < sent_at or created_at > future
    born = created_at_of(model_id)
    return born is None or born + ID_RESOLUTION <= sent_at or born > future


class SuspectCheck(NamedTuple):
    """The result of a GET of a suspect.

    Attributes:
        response: the upstream's response about the suspect; None after a 404.
        absence: the deletion that a 404 is evidence of; None where it is none: the model was created after the request
            was sent.
    """

    model_id: str
    response: UpstreamResponse[DetailedModel] | None = None
    absence: Observation | None = None


def _check(engine: Engine, client: UpstreamClient, model_id: str, max_wait: float | None) -> SuspectCheck:
    """Read a suspect by a single GET; a 404 counts, because a complete walk did not show it either."""
    try:
        response = client.get_model(model_id, priority=Priority.DELETION, max_wait=max_wait)
    except ModelNotFound as error:
        with transaction(engine) as connection:
            created_at = models.read(connection, [model_id]).get(model_id, {}).get("created_at")
        counts = proves_deletion(model_id, created_at, error.sent_at, error.received_at)
        return SuspectCheck(model_id, absence=from_absence(model_id, error.sent_at) if counts else None)
    return SuspectCheck(model_id, response)


def settle(connection: Connection, check: SuspectCheck, pull_id: int) -> BatchResult:
    """Merge the result of a suspect's GET, as a finding of its pull."""
    if check.response is not None:
        return merge_single(connection, check.model_id, check.response, "pull", pull_id=pull_id)
    if check.absence is None:
        return BatchResult(contributed=[])
    applied = apply(connection, [check.absence], "pull", pull_id=pull_id)
    refetches.complete(connection, [check.model_id], check.absence.at)
    return applied


def check_or_record_failure(
    engine: Engine, client: UpstreamClient, state: PullState, model_id: str, max_wait: float | None
) -> SuspectCheck | None:
    """Read a suspect; None where its GET failed, which is counted: the others are read meanwhile.

    Raises:
        KeyRejected: the upstream refuses our key, with 401.
        Throttled: no request may be sent now.
        UpstreamFailed: the GETs of several suspects in a row failed: the upstream is unavailable.
    """
    try:
        suspect = _check(engine, client, model_id, max_wait)
    except UpstreamError as error:
        if scope_of(error) is ErrorScope.UPSTREAM:
            raise
        log.warning("suspect.failed", model_id=model_id, error=str(error))
        if state.failed(model_id):
            raise UpstreamFailed(f"suspects could not be decided: {error}") from None
        return None
    state.decided(model_id)
    return suspect

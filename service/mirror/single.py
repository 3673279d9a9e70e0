"""Merging the response to a single GET: the row, what of it could not be used, and the refetch requests it settles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.mirror import set_aside
from service.mirror.apply import apply
from service.mirror.observe import from_single
from service.storage import refetches

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from service.mirror.merging_batch import BatchResult
    from service.upstream.payloads import DetailedModel
    from service.upstream.responses import UpstreamResponse


def merge_single(
    connection: Connection,
    model_id: str,
    response: UpstreamResponse[DetailedModel],
    source: str,
    *,
    pull_id: int | None = None,
    settles_before: datetime | None = None,
) -> BatchResult:
    """Merge a single GET. The steps take their locks in the order of every writer, so none may move.

    `pull_id` is the pull that sent the GET, or requested it. The response settles the refetch requests of before
    `settles_before`, upstream time: by default, of before the GET was sent.
    """
    seen = from_single(model_id, response.body, response.sent_at, response.received_at)
    applied = apply(connection, [seen], source, pull_id=pull_id)
    set_aside.note_single(connection, model_id, response, pull_id)
    refetches.complete(connection, [model_id], settles_before or response.sent_at)
    return applied

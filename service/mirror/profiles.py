"""Gathering profiles: many at once through list pages, because a page shows 200 models for the price of one GET.

Models without a profile are new: they stand near the list's young end, first or last. From that end pages are read
until they have shown the models that are looked for, or are past them, or have cost a fifth of what single GETs would;
what is left over is read by single GETs. A page may show none of them: of a burst the oldest are heard of first.
"""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.mirror import set_aside
from service.mirror.apply import Sighting, apply
from service.mirror.observe import from_list
from service.mirror.walk import OVERLAP, PAGE
from service.storage import refetches
from service.storage.database import transaction
from service.upstream.budget import Priority
from service.upstream.payloads import created_at_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Engine

    from service.upstream.client import UpstreamClient
    from service.upstream.payloads import ListedModel, ModelPage
    from service.upstream.responses import Answer

log = structlog.get_logger(__name__)

# Fewer are cheaper to read one by one: the young end may be the far one, and costs a request to find.
WORTH_A_PAGE = 5
MOST_AT_ONCE = 10_000
# Between the creation time that a page tells and the one in a model's id.
SLACK = timedelta(minutes=1)


def gather(engine: Engine, client: UpstreamClient, deadline: float) -> int:
    """Read list pages for the models whose profile is asked for, while that is cheaper than single GETs.

    Args:
        engine: the mirror's Postgres.
        client: the upstream.
        deadline: monotonic time after which no further page is read.

    Returns:
        How many pages were read.

    Raises:
        UpstreamError: the upstream gave nothing.
    """
    with transaction(engine) as connection:
        wanted = set(refetches.due_profiles(connection, MOST_AT_ONCE))
    if len(wanted) < WORTH_A_PAGE:
        return 0
    # One more, because the young end may be the far one.
    most = 1 + len(wanted) // WORTH_A_PAGE
    offset, step, pages = 0, PAGE - OVERLAP, 0
    while offset >= 0 and pages < most and monotonic() < deadline:
        answer = client.list_models(
            limit=PAGE, offset=offset, priority=Priority.REFETCH, patience=max(0.0, deadline - monotonic())
        )
        pages += 1
        listed, pagination = answer.body.models, answer.body.pagination
        _merge(engine, answer)
        wanted.difference_update(model.id for model in listed)
        if pages == 1 and _rising(listed) and pagination.has_more:
            # Go to the far end, and come back page by page.
            offset, step = max(0, pagination.total - PAGE), -step
            continue
        if len(wanted) < WORTH_A_PAGE or _is_past(listed, wanted) or (step > 0 and not pagination.has_more):
            break
        offset += step
    with transaction(engine) as connection:
        refetches.looked_for(connection, sorted(wanted))
    log.info("gathered", pages=pages, left=len(wanted))
    return pages


def _merge(engine: Engine, answer: Answer[ModelPage]) -> None:
    models = answer.body.models
    sightings = [Sighting(from_list(model, answer.sent_at, answer.answered_at), "refetch") for model in models]
    with transaction(engine) as connection:
        apply(connection, sightings)
        set_aside.note(connection, answer.set_aside)
        refetches.settle_profiles(connection, sorted({sighting.observation.model_id for sighting in sightings}))


def _rising(listed: Sequence[ListedModel]) -> bool:
    """Whether a page shows the older model first."""
    times = [_created_at(model) for model in (*listed[:1], *listed[-1:])]
    return len(times) == 2 and times[0] is not None and times[1] is not None and times[0] < times[1]


def _is_past(listed: Sequence[ListedModel], wanted: set[str]) -> bool:
    """Whether a page shows models that are older than all that are looked for."""
    shown = [time for time in map(_created_at, listed) if time]
    looked_for = [created_at_of(model_id) for model_id in wanted]
    known = [time for time in looked_for if time]
    return bool(shown) and len(known) == len(looked_for) and min(shown) < min(known) - SLACK


def _created_at(model: ListedModel) -> datetime | None:
    return model.created_at or created_at_of(model.id)

"""Gathering profiles: many at once through list pages, because a page shows 200 models for the price of one GET.

Models without a profile are new: they are near the list's young end, first or last. From that end pages are read until
they have shown the wanted models, or are past them, or have cost a fifth of what single GETs would; single GETs read
the rest. A page may show none of them: of a burst, the webhooks of the oldest models arrive first.
"""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.mirror import set_aside
from service.mirror.apply import apply
from service.mirror.observe import from_list
from service.mirror.walk import OVERLAP, PAGE_SIZE
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
    from service.upstream.responses import UpstreamResponse

log = structlog.get_logger(__name__)

# Fewer are cheaper to read one by one: the young end may be the far one, and costs a request to find.
MIN_MODELS_PER_PAGE = 5
MAX_PROFILES = 10_000
# Between the creation time on a page and the one in a model's id.
CREATION_TIME_SLACK = timedelta(minutes=1)


def gather(engine: Engine, client: UpstreamClient, deadline: float) -> int:
    """Read list pages for the models whose profile is requested, while that is cheaper than single GETs.

    No further page is read after `deadline`, on the monotonic clock.

    Returns:
        How many pages were read.

    Raises:
        UpstreamError: a page could not be read.
    """
    with transaction(engine) as connection:
        wanted = set(refetches.due_profiles(connection, MAX_PROFILES))
    if len(wanted) < MIN_MODELS_PER_PAGE:
        return 0
    try:
        return _gather(engine, client, deadline, wanted)
    finally:
        # The frames of an error are kept until the next search for garbage, and thousands of ids with each try.
        wanted.clear()


def _gather(engine: Engine, client: UpstreamClient, deadline: float, wanted: set[str]) -> int:
    # One more, because the young end may be the far one.
    most = 1 + len(wanted) // MIN_MODELS_PER_PAGE
    offset, direction, pages = 0, 1, 0
    while offset >= 0 and pages < most and monotonic() < deadline:
        response = client.list_models(
            limit=PAGE_SIZE, offset=offset, priority=Priority.REFETCH, max_wait=max(0.0, deadline - monotonic())
        )
        pages += 1
        listed, pagination = response.body.models, response.body.pagination
        _merge(engine, response)
        wanted.difference_update(model.id for model in listed)
        if pages == 1 and _is_oldest_first(listed) and pagination.has_more:
            # Go to the far end, and come back page by page.
            offset, direction = max(0, pagination.total - len(listed)), -1
            continue
        if len(wanted) < MIN_MODELS_PER_PAGE or _is_past(listed, wanted) or (direction > 0 and not pagination.has_more):
            break
        # The upstream may make its pages shorter.
        offset += direction * max(1, len(listed) - OVERLAP)
    with transaction(engine) as connection:
        refetches.count_page_read(connection, sorted(wanted))
    log.info("profiles.read", pages=pages, left=len(wanted))
    return pages


def _merge(engine: Engine, response: UpstreamResponse[ModelPage]) -> None:
    observations = [from_list(model, response.sent_at, response.received_at) for model in response.body.models]
    with transaction(engine) as connection:
        apply(connection, observations, "refetch")
        set_aside.note(connection, response.set_aside)
        refetches.complete_profiles(connection, sorted({seen.model_id for seen in observations}))


def _is_oldest_first(listed: Sequence[ListedModel]) -> bool:
    """Whether a page shows the older model first."""
    times = [_created_at(model) for model in (*listed[:1], *listed[-1:])]
    return len(times) == 2 and times[0] is not None and times[1] is not None and times[0] < times[1]


def _is_past(listed: Sequence[ListedModel], wanted: set[str]) -> bool:
    """Whether a page shows models that are older than all wanted ones."""
    shown = [time for time in map(_created_at, listed) if time]
    wanted_times = [created_at_of(model_id) for model_id in wanted]
    known = [time for time in wanted_times if time]
    return bool(shown) and len(known) == len(wanted_times) and min(shown) < min(known) - CREATION_TIME_SLACK


def _created_at(model: ListedModel) -> datetime | None:
    return model.created_at or created_at_of(model.id)

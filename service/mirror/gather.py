"""Gathering profiles: many at once through list pages, because a page shows 200 models for the price of one GET.

Models without a profile are new: they stand at the list's young end, first or last. From that end pages are read for
as long as each shows enough of the models that are looked for; what is left over is read by single GETs.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.mirror.apply import Sighting, apply
from service.mirror.observe import from_list
from service.mirror.walk import OVERLAP, PAGE
from service.storage import wishes
from service.storage.database import transaction
from service.upstream.budget import Priority
from service.upstream.payloads import created_at_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from service.upstream.client import UpstreamClient
    from service.upstream.payloads import ListedModel

log = structlog.get_logger(__name__)

# Fewer are cheaper to read one by one: the young end may be the far one, and costs a request to find.
WORTH_A_PAGE = 5
MOST_AT_ONCE = 10_000


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
        wanted = set(wishes.due_profiles(connection, MOST_AT_ONCE))
    if len(wanted) < WORTH_A_PAGE:
        return 0
    offset, step, pages = 0, PAGE - OVERLAP, 0
    while offset >= 0 and monotonic() < deadline:
        answer = client.list_models(
            limit=PAGE, offset=offset, priority=Priority.REFETCH, patience=max(0.0, deadline - monotonic())
        )
        pages += 1
        listed, pagination = answer.body.models, answer.body.pagination
        shown = wanted.intersection(model.id for model in listed)
        _merge(engine, [Sighting(from_list(model, answer.sent_at, answer.answered_at), "refetch") for model in listed])
        wanted -= shown
        if offset == 0 and pages == 1 and _rising(listed) and pagination.has_more:
            # The young end is the far one: go there, and come back page by page.
            offset, step = max(0, pagination.total - PAGE), -step
            continue
        if len(wanted) < WORTH_A_PAGE or len(shown) < WORTH_A_PAGE or (step > 0 and not pagination.has_more):
            break
        offset += step
    with transaction(engine) as connection:
        wishes.looked_for(connection, sorted(wanted))
    log.info("gathered", pages=pages, left=len(wanted))
    return pages


def _merge(engine: Engine, sightings: Sequence[Sighting]) -> None:
    with transaction(engine) as connection:
        apply(connection, sightings)
        wishes.settle_profiles(connection, sorted({sighting.observation.model_id for sighting in sightings}))


def _rising(listed: Sequence[ListedModel]) -> bool:
    """Whether a page shows the older model first."""
    times = [model.created_at or created_at_of(model.id) for model in (*listed[:1], *listed[-1:])]
    return len(times) == 2 and times[0] is not None and times[1] is not None and times[0] < times[1]

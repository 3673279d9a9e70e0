"""`refetch_requests`: models that a single GET has to read. Added in batches, claimed by a conditional UPDATE."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from service.storage import arrays, queries
from service.storage.tables.pulls import refetch_requests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection


# A GET is ordered by the moment it was sent, less 2 s and what `Date` cuts off, up to one more; half a second on top is
# for the way there and for two clocks that differ a little.
REFETCH_DELAY = timedelta(seconds=3.5)


class RefetchReason(StrEnum):
    """Why a model has to be read by a single GET; stored in `reason`."""

    # Two observations disagree, or a list or webhook shows a deleted model alive.
    DISPUTE = "dispute"
    # No API response has shown the model yet.
    PROFILE = "profile"
    # A webhook event about it could not be applied.
    DEAD_EVENT = "dead_event"
    # A delivery about it was refused, because its signature was too old.
    STALE_DELIVERY = "stale_delivery"
    # It was in a hot status, and a hot pull did not show it.
    LEFT_HOT = "left_hot"
    # The detail sweep got a 404.
    MISSING = "missing"


class RefetchRequest(NamedTuple):
    """A request to read one model by a single GET.

    Attributes:
        after: only a GET sent after this upstream time settles it; None: any does.
        reason: a `RefetchReason`, or one of an older version.
        due_at: our time from which the GET may be sent.
        attempts: GETs that did not settle it.
        pull_id: the pull that requested it; what the response changes is a finding of that pull's.
    """

    model_id: str
    after: datetime | None
    reason: str
    due_at: datetime
    attempts: int = 0
    pull_id: int | None = None

    @classmethod
    def later_than(cls, after: datetime, model_id: str, reason: RefetchReason, now: datetime) -> RefetchRequest:
        """A request for a GET that is surely sent after an upstream time."""
        return cls(model_id, after, reason, max(now, after + REFETCH_DELAY))


REQUEST_TYPES = arrays.column_types(refetch_requests, ("model_id", "after", "reason", "due_at", "pull_id"))


_CLAIM = """
    UPDATE headshotpro.refetch_requests AS w SET due_at = now() + make_interval(secs => :hold), attempts = attempts + 1
    FROM (
        SELECT model_id FROM headshotpro.refetch_requests WHERE due_at <= now()
        ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE w.model_id = due.model_id
    RETURNING w.model_id, w.after, w.reason, w.due_at, w.attempts, w.pull_id
"""


def claim(connection: Connection, limit: int, hold: float) -> list[RefetchRequest]:
    """Claim due requests; one that is not settled comes due again after `hold` seconds."""
    rows = queries.execute(connection, _CLAIM, limit=limit, hold=hold).all()
    return [RefetchRequest(*row) for row in rows]


def complete(connection: Connection, ids: Sequence[str], sent_at: datetime) -> None:
    """Remove the requests that a single GET settles, or a 404 about a tombstone, sent at an upstream time."""
    statement = (
        "DELETE FROM headshotpro.refetch_requests "
        "WHERE model_id = ANY(CAST(:ids AS text[])) AND (after IS NULL OR after < :sent_at)"
    )
    queries.run(connection, statement, ids=list(ids), sent_at=sent_at)


def complete_profiles(connection: Connection, ids: Sequence[str]) -> None:
    """Remove the requests that a list page settles too: those for a profile."""
    statement = f"DELETE FROM headshotpro.refetch_requests WHERE model_id = ANY({arrays.IDS_ARRAY}) AND after IS NULL"  # noqa: S608 - our words
    queries.run(connection, statement, ids=arrays.encode(ids))


def release(connection: Connection, ids: Sequence[str], seconds: float) -> None:
    """Return claimed requests whose GET was not sent; they come due after `seconds`."""
    statement = (
        "UPDATE headshotpro.refetch_requests SET due_at = now() + make_interval(secs => :seconds), "
        "attempts = attempts - 1 WHERE model_id = ANY(CAST(:ids AS text[])) AND attempts > 0"
    )
    queries.run(connection, statement, ids=list(ids), seconds=seconds)


def postpone(connection: Connection, model_id: str, seconds: float, missing_at: datetime | None = None) -> None:
    """Try again later; a 404 that a full pull has still to confirm is kept with its upstream time."""
    statement = """
        UPDATE headshotpro.refetch_requests
        SET due_at = now() + make_interval(secs => :seconds), missing_at = coalesce(:missing_at, missing_at)
        WHERE model_id = :model_id
    """
    queries.run(connection, statement, model_id=model_id, seconds=seconds, missing_at=missing_at)


def due_profiles(connection: Connection, limit: int) -> list[str]:
    """Models whose profile is requested, and for which no list page was read yet; at most `limit`."""
    statement = (
        "SELECT model_id FROM headshotpro.refetch_requests "
        "WHERE due_at <= now() AND after IS NULL AND attempts = 0 ORDER BY due_at LIMIT :limit"
    )
    return queries.column(connection, statement, limit=limit)


def count_page_read(connection: Connection, ids: Sequence[str]) -> None:
    """Note that a list page was read for these, whether it showed them or not."""
    statement = (
        "UPDATE headshotpro.refetch_requests SET attempts = attempts + 1 WHERE model_id = ANY(CAST(:ids AS text[]))"
    )
    queries.run(connection, statement, ids=list(ids))


def due(connection: Connection) -> bool:
    """Whether any request is due."""
    return bool(
        queries.value(connection, "SELECT EXISTS (SELECT FROM headshotpro.refetch_requests WHERE due_at <= now())")
    )


def next_due(connection: Connection) -> datetime | None:
    """When the next request with fewer than three failed GETs and no 404 comes due; None where there is none."""
    statement = "SELECT min(due_at) FROM headshotpro.refetch_requests WHERE missing_at IS NULL AND attempts < 3"
    found: datetime | None = queries.value(connection, statement)
    return found

"""Queries of the console's pages of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.storage import queries
from service.storage.api_queries import CONDITIONS

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

MAX_NOW = 20


class ModelSearch(NamedTuple):
    """Which models a list shows; what is None does not narrow it.

    Attributes:
        words: the id, or the beginning of the e-mail address or of the title, in any case.
        only_id: words are an id only, because names are hidden.
    """

    words: str | None = None
    only_id: bool = False
    status: str | None = None
    team_id: str | None = None
    is_development: bool | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None


class ModelPlace(NamedTuple):
    """A place in the list: the model at which a page ends. Models without a time of creation come first."""

    created_at: datetime | None
    id: str


_NAMED = "(id = :words OR starts_with(lower(email), lower(:words)) OR starts_with(lower(title), lower(:words)))"
_LAST = "((created_at, id) < (:before_at, :before_id))"
_LAST_WITHOUT_TIME = "(created_at IS NOT NULL OR id < :before_id)"


def page(connection: Connection, search: ModelSearch, before: ModelPlace | None, limit: int) -> list[dict[str, Any]]:
    """The wanted models, the newest first. `before`: those after this place."""
    words = "id = :words" if search.only_id else _NAMED
    wanted, values = queries.where({**CONDITIONS, "words": words}, search._asdict())
    if before is not None:
        wanted += f" AND {_LAST if before.created_at else _LAST_WITHOUT_TIME}"
        values |= {"before_at": before.created_at} if before.created_at else {}
        values["before_id"] = before.id
    statement = (
        f"SELECT * FROM headshotpro.models WHERE {wanted} "  # noqa: S608 - constants
        "ORDER BY created_at DESC, id DESC LIMIT :limit"
    )
    return queries.rows(connection, statement, **values, limit=limit)


def as_of(connection: Connection, model_id: str, at: datetime) -> dict[str, Any] | None:
    """The row of a model as it was in the mirror at a time; None where it did not exist yet."""
    return queries.row(connection, "SELECT * FROM headshotpro.model_as_of(:id, :at)", id=model_id, at=at)


def quiet_events(
    connection: Connection, model_id: str, before_at: datetime | None, before_id: str, limit: int
) -> list[dict[str, Any]]:
    """Events about a model that changed nothing of it, the newest first; those before an event's time and id."""
    statement = """
        SELECT e.id, e.event, e.status, e.error, e.created_at, e.received_at, e.deliveries
        FROM headshotpro.webhook_events AS e
        WHERE e.model_id = :id
            AND (CAST(:before_at AS timestamptz) IS NULL OR (e.received_at, e.id) < (:before_at, :before_id))
            AND NOT EXISTS (
                SELECT FROM headshotpro.model_changes AS c WHERE c.model_id = :id AND c.event_id = e.id
            )
        ORDER BY e.received_at DESC, e.id DESC LIMIT :limit
    """
    return queries.rows(connection, statement, id=model_id, before_at=before_at, before_id=before_id, limit=limit)


def open_matters(connection: Connection, model_id: str) -> list[dict[str, Any]]:
    """The open matters of a model: alerts, GETs that are due, and what was set aside; `kind`, `since` and `detail`."""
    statement = """
        (SELECT 'alert' AS kind, kind AS detail, opened_at AS since FROM headshotpro.alerts
            WHERE resolved_at IS NULL AND model_id = :id ORDER BY id DESC LIMIT :limit)
        UNION ALL
        (SELECT 'GET', reason, due_at FROM headshotpro.refetch_requests WHERE model_id = :id)
        UNION ALL
        (SELECT 'set aside', array_to_string(fields, ', ') || ': ' || reason, found_at FROM headshotpro.set_aside
            WHERE resolved_at IS NULL AND coalesce(model_id, '') = :id ORDER BY id DESC LIMIT :limit)
    """
    return queries.rows(connection, statement, id=model_id, limit=MAX_NOW)

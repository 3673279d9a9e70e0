"""The list as the API shows it: pages of `models`, newest first, and the feed of what changed since a change's id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.model_fields import GROUPS, PROFILE, Source, columns_of
from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    Row = Mapping[str, Any]

# The columns of the API, the newest observation of a model (upstream time), and whether its profile is known.
_COLUMNS = f"""
    {", ".join(f"m.{name}" for name in ("id", *columns_of(Source.SINGLE), "deleted_at"))},
    greatest({", ".join(f"c.{group.clock}" for group in GROUPS)}, c.alive_at, c.deletion_evidence_at) AS seen_at,
    c.{PROFILE.clock} IS NOT NULL AS has_profile
"""


class ModelFilter(NamedTuple):
    """Which models a list shows; None lets every one through.

    Attributes:
        status: `deleted` shows tombstones.
        email: as it is stored, or in small letters.
        deleted: show tombstones too; a status overrides it.
    """

    status: str | None = None
    team_id: str | None = None
    email: str | None = None
    is_development: bool | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None
    deleted: bool = False


CONDITIONS = {
    "status": "status = :status",
    "team_id": "team_id = :team_id",
    "email": "email IN (:email, lower(:email))",
    "is_development": "is_development = :is_development",
    "created_from": "created_at >= :created_from",
    "created_until": "created_at < :created_until",
}


def newest_change(connection: Connection) -> int | None:
    """The id of the newest change; None where there is none, or none is kept."""
    found: int | None = queries.value(connection, "SELECT max(id) FROM headshotpro.model_changes")
    return found


def total(connection: Connection, model_filter: ModelFilter) -> int:
    """How many models a filter lets through."""
    if model_filter == ModelFilter():
        # Twice as quick as looking at each row's status: nearly all rows count, and the few others have an index.
        both = (
            "SELECT (SELECT count(*) FROM headshotpro.models)"
            " - (SELECT count(*) FROM headshotpro.models WHERE status = 'deleted')"
        )
        return int(queries.value(connection, both))
    where, values = _where(model_filter)
    # The condition holds names of our own columns alone; values of the request are parameters.
    statement = f"SELECT count(*) FROM headshotpro.models WHERE {where}"  # noqa: S608
    return int(queries.value(connection, statement, **values))


def page(connection: Connection, model_filter: ModelFilter, limit: int, offset: int, matching: int) -> list[Row]:
    """A page of the list, the newest model first; one whose creation is not known yet counts as the newest.

    `matching` is how many the filter lets through, counted in this transaction: a page past the middle is reached
    from the other end.
    """
    limit = min(limit, matching - offset)
    if limit <= 0:
        return []
    where, values = _where(model_filter)
    from_end = offset > matching // 2
    skipped = matching - offset - limit if from_end else offset
    direction = "ASC" if from_end else "DESC"
    # The inner query needs nothing but an index; the outer one reads the rows of one page. The condition holds names of
    # our own columns alone; values of the request are parameters.
    statement = f"""
        SELECT {_COLUMNS}
        FROM (
            SELECT id FROM headshotpro.models WHERE {where}
            ORDER BY created_at {direction}, id {direction} LIMIT :limit OFFSET :skipped
        ) AS page
        JOIN headshotpro.models AS m ON m.id = page.id
        LEFT JOIN headshotpro.model_clocks AS c ON c.model_id = m.id
        ORDER BY m.created_at DESC, m.id DESC
    """  # noqa: S608 - see above
    return [*queries.rows(connection, statement, **values, limit=limit, skipped=skipped)]


def one(connection: Connection, model_id: str) -> Row | None:
    """One model, a tombstone too."""
    statement = f"""
        SELECT {_COLUMNS} FROM headshotpro.models AS m
        LEFT JOIN headshotpro.model_clocks AS c ON c.model_id = m.id WHERE m.id = :id
    """  # noqa: S608 - constant
    return queries.row(connection, statement, id=model_id)


def changes_after(connection: Connection, change_id: int, limit: int, offset: int) -> list[tuple[int, str]]:
    """The next changes in the order of commits, behind some that are passed over: their ids and models."""
    statement = (
        "SELECT id, model_id FROM headshotpro.model_changes WHERE id > :id ORDER BY id LIMIT :limit OFFSET :offset"
    )
    found = queries.execute(connection, statement, id=change_id, limit=limit, offset=offset)
    return [(row[0], row[1]) for row in found]


def list_matching(connection: Connection, ids: Sequence[str], model_filter: ModelFilter) -> list[Row]:
    """Those of some models that a filter lets through, and all of them that are tombstones."""
    where, values = _where(model_filter)
    statement = f"""
        SELECT {_COLUMNS} FROM headshotpro.models AS m
        LEFT JOIN headshotpro.model_clocks AS c ON c.model_id = m.id
        WHERE m.id = ANY(CAST(:ids AS text[])) AND (m.status = 'deleted' OR ({where}))
    """  # noqa: S608 - see above
    return [*queries.rows(connection, statement, **values, ids=list(ids))]


def oldest_change(connection: Connection) -> tuple[int, datetime] | None:
    """Id and time of the oldest change that is kept."""
    statement = "SELECT id, recorded_at FROM headshotpro.model_changes ORDER BY id LIMIT 1"
    row = queries.execute(connection, statement).first()
    return (row[0], row[1]) if row else None


def any_unchanged_since(connection: Connection, moment: datetime) -> bool:
    """Whether some model's last change is older than a time (ours)."""
    statement = "SELECT EXISTS (SELECT FROM headshotpro.models WHERE updated_at < :moment)"
    return bool(queries.value(connection, statement, moment=moment))


def newest_with_email(connection: Connection, email: str, since: datetime) -> str | None:
    """The newest live model of an address that was created at an upstream time or later."""
    statement = """
        SELECT id FROM headshotpro.models
        WHERE email IN (:email, lower(:email)) AND created_at >= :since AND status IS DISTINCT FROM 'deleted'
        ORDER BY created_at DESC LIMIT 1
    """
    found: str | None = queries.value(connection, statement, email=email, since=since)
    return found


def _where(model_filter: ModelFilter) -> tuple[str, dict[str, Any]]:
    """The condition of a filter, and its values; only given parameters are in it."""
    wanted, values = queries.where(CONDITIONS, model_filter._asdict())
    if model_filter.status is None and not model_filter.deleted:
        wanted += " AND status IS DISTINCT FROM 'deleted'"
    return wanted, values

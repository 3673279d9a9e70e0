"""Queries of the console's pages of pulls, of what was set aside, and of accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The most rows of a part of a pull's page.
MAX_PART = 100


def page(
    connection: Connection, kind: str | None, status: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Pulls, the newest first; `total` is how many models the list has, null until a page was read or after the end.

    `before`: those with smaller ids.
    """
    return queries.rows(connection, _PAGE, kind=kind, status=status, before=before, limit=limit)


_PAGE = """
    SELECT p.*, (c.state #>> '{walk,total}')::bigint AS total
    FROM headshotpro.pulls AS p LEFT JOIN headshotpro.pull_checkpoints AS c ON c.pull_id = p.id
    WHERE (CAST(:kind AS text) IS NULL OR p.kind = :kind) AND (CAST(:status AS text) IS NULL OR p.status = :status)
        AND (CAST(:before AS bigint) IS NULL OR p.id < :before)
    ORDER BY p.id DESC LIMIT :limit
"""


def one(connection: Connection, pull_id: int) -> dict[str, Any] | None:
    """One pull, as `page` shows it."""
    return next(iter(page(connection, None, None, pull_id + 1, 1)), None)


def running(connection: Connection, kind: str) -> int | None:
    """The running pull of a kind; None where none runs."""
    statement = "SELECT max(id) FROM headshotpro.pulls WHERE kind = :kind AND status = 'running'"
    found: int | None = queries.value(connection, statement, kind=kind)
    return found


def last_complete(connection: Connection, kind: str) -> dict[str, Any] | None:
    """The newest complete pull of a kind."""
    statement = "SELECT * FROM headshotpro.pulls WHERE kind = :kind AND status = 'complete' ORDER BY id DESC LIMIT 1"
    return queries.row(connection, statement, kind=kind)


def live_models(connection: Connection) -> int:
    """How many models are not deleted."""
    statement = "SELECT count(*) FROM headshotpro.models WHERE status IS DISTINCT FROM 'deleted'"
    return int(queries.value(connection, statement))


def suspects(connection: Connection, pull_id: int) -> list[dict[str, Any]]:
    """Models that a held pull did not show, in the order of their ids: what the mirror knows, and `kept_until`."""
    return _part(connection, _SUSPECTS, pull_id)


_SUSPECTS = """
    SELECT h.model_id, h.kept_until, m.title, m.status, m.created_at, m.observed_at
    FROM headshotpro.held_suspects AS h LEFT JOIN headshotpro.models AS m ON m.id = h.model_id
    WHERE h.pull_id = :pull_id ORDER BY h.model_id LIMIT :limit
"""


def changes(connection: Connection, pull_id: int) -> list[dict[str, Any]]:
    """The newest changes that a pull made."""
    return _part(connection, _CHANGES, pull_id)


_CHANGES = (
    "SELECT * FROM headshotpro.model_changes WHERE pull_id IS NOT NULL AND pull_id = :pull_id "
    "ORDER BY id DESC LIMIT :limit"
)


def differences(connection: Connection, pull_id: int) -> list[dict[str, Any]]:
    """The newest differences between mirror and upstream that a pull found."""
    return _part(connection, _DIFFERENCES, pull_id)


_DIFFERENCES = (
    "SELECT * FROM headshotpro.accuracy_checks WHERE pull_id = :pull_id AND NOT agreed ORDER BY id DESC LIMIT :limit"
)


def _part(connection: Connection, statement: Any, pull_id: int) -> list[dict[str, Any]]:
    return queries.rows(connection, statement, pull_id=pull_id, limit=MAX_PART)


def set_aside(
    connection: Connection, *, is_open: bool | None, model_id: str | None, pull_id: int | None, before: int | None,
    limit: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Records and fields that could not be used, the newest first. `before`: those with smaller ids."""
    return queries.rows(
        connection, _SET_ASIDE, is_open=is_open, model_id=model_id, pull_id=pull_id, before=before, limit=limit
    )


_SET_ASIDE = """
    SELECT * FROM headshotpro.set_aside
    WHERE (CAST(:is_open AS boolean) IS NULL OR (resolved_at IS NULL) = :is_open)
        AND (CAST(:model_id AS text) IS NULL OR model_id = :model_id)
        AND (CAST(:pull_id AS bigint) IS NULL OR pull_id = :pull_id OR last_pull_id = :pull_id)
        AND (CAST(:before AS bigint) IS NULL OR id < :before)
    ORDER BY id DESC LIMIT :limit
"""


def checks(
    connection: Connection, method: str | None, verdict: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Accuracy checks, the newest first.

    The verdict is `agreed` or a class of differences; `before`: those with smaller ids.
    """
    return queries.rows(connection, _CHECKS, method=method, verdict=verdict, before=before, limit=limit)


_CHECKS = """
    SELECT * FROM headshotpro.accuracy_checks
    WHERE (CAST(:method AS text) IS NULL OR method = :method)
        AND (CAST(:verdict AS text) IS NULL
            OR CASE WHEN agreed THEN 'agreed' ELSE coalesce(class, 'undecided') END = :verdict)
        AND (CAST(:before AS bigint) IS NULL OR id < :before)
    ORDER BY id DESC LIMIT :limit
"""


def found_by_pulls(connection: Connection) -> list[dict[str, Any]]:
    """Sums of what full pulls of 28 days compared and found, in steps of four hours (`at`); the oldest first."""
    return queries.rows(connection, _FOUND)


_FOUND = """
    SELECT to_timestamp(floor(extract(epoch FROM started_at) / 14400) * 14400) AS at,
        sum(rows_compared)::bigint AS compared,
        sum(rows_differed)::bigint AS differed, sum(late_webhooks)::bigint AS late, sum(lost_webhooks)::bigint AS lost
    FROM headshotpro.pulls
    WHERE kind = 'full' AND started_at > now() - interval '28 days' AND rows_compared > 0
    GROUP BY 1 ORDER BY 1
"""

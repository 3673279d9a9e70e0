"""`pulls`: what each found, how a person decides about one that is held, and what pages of the console show of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection


def newest_id(connection: Connection) -> int:
    """The number of the newest pull; 0 where there was none."""
    return int(queries.value(connection, "SELECT coalesce(max(id), 0) FROM headshotpro.pulls"))


def any_complete(connection: Connection) -> bool:
    """Whether a full pull was ever complete."""
    statement = "SELECT EXISTS (SELECT FROM headshotpro.pulls WHERE kind = 'full' AND status = 'complete')"
    return bool(queries.value(connection, statement))


def newest_began_at(connection: Connection) -> datetime | None:
    """Upstream time of the first page of the newest complete full pull; None before the first one."""
    statement = "SELECT max(upstream_started_at) FROM headshotpro.pulls WHERE kind = 'full' AND status = 'complete'"
    found: datetime | None = queries.value(connection, statement)
    return found


def one(connection: Connection, pull_id: int) -> dict[str, Any] | None:
    """One pull's row."""
    return queries.row(connection, "SELECT * FROM headshotpro.pulls WHERE id = :id", id=pull_id)


def lock(connection: Connection, pull_id: int) -> str | None:
    """Keep a pull's status as it is until the transaction ends: the status; None where there is no such pull."""
    statement = "SELECT status FROM headshotpro.pulls WHERE id = :id FOR NO KEY UPDATE"
    found: str | None = queries.value(connection, statement, id=pull_id)
    return found


def list_rows(connection: Connection, *, kind: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
    """The newest pulls first."""
    return queries.newest(connection, "pulls", limit, kind=kind)


class FailingPull(NamedTuple):
    """The newest pull of a kind, where it fails.

    `error` may be that of the pull before, while this one has read no page; `failures` in a row are None where it
    has failed for good.
    """

    kind: str
    error: str
    failures: int | None
    last_complete_at: datetime | None


def failing(connection: Connection) -> list[FailingPull]:
    """The pulls that fail, a full one first; a held pull and one that a person rejected are decisions, no failures."""
    return [FailingPull(*row) for row in queries.execute(connection, _FAILING)]


_FAILING = """
    SELECT kinds.kind, coalesce(newest.error, before.error) AS error,
        CASE WHEN newest.error IS NOT NULL AND newest.status = 'running'
            THEN coalesce(CAST(c.state ->> 'failures' AS integer), 0) END AS failures,
        (SELECT max(finished_at) FROM headshotpro.pulls WHERE kind = 'full' AND status = 'complete') AS last_complete_at
    FROM (VALUES ('full'), ('hot')) AS kinds (kind)
    CROSS JOIN LATERAL (
        SELECT id, status, error, pages, started_at FROM headshotpro.pulls AS p
        WHERE p.kind = kinds.kind ORDER BY p.started_at DESC, p.id DESC LIMIT 1
    ) AS newest
    LEFT JOIN LATERAL (
        SELECT p.status, p.error FROM headshotpro.pulls AS p
        WHERE p.kind = kinds.kind AND (p.started_at, p.id) < (newest.started_at, newest.id)
            AND newest.status = 'running' AND newest.error IS NULL AND newest.pages = 0
        ORDER BY p.started_at DESC, p.id DESC LIMIT 1
    ) AS before ON before.status = 'failed'
    LEFT JOIN headshotpro.pull_checkpoints AS c ON c.pull_id = newest.id
    WHERE newest.status IN ('running', 'failed')
        AND coalesce(newest.error, before.error)
            NOT IN ('rejected by a person', 'interrupted, and not taken up again in time')
    ORDER BY kinds.kind
"""


def reopen(connection: Connection, pull_id: int) -> bool:
    """Let a held pull begin anew; False while another one of its kind is running."""
    statement = """
        WITH opened AS (
            INSERT INTO headshotpro.pull_checkpoints (pull_id, kind, holder, leased_until, state)
            SELECT id, kind, '', now(), '{}' FROM headshotpro.pulls WHERE id = :id AND status = 'held'
            ON CONFLICT (kind) DO NOTHING
            RETURNING pull_id
        )
        UPDATE headshotpro.pulls SET status = 'running', finished_at = NULL, error = NULL
        WHERE id IN (SELECT pull_id FROM opened)
    """
    return queries.run(connection, statement, id=pull_id) == 1


def close_held(
    connection: Connection, pull_id: int, status: str, error: str | None = None, postponed: Sequence[str] = ()
) -> None:
    """End a held pull as a person decided."""
    statement = (
        "UPDATE headshotpro.pulls SET status = :status, error = :error, finished_at = now(), "
        "postponed = CAST(:postponed AS text[]), webhooks_checked_at = NULL WHERE id = :id AND status = 'held'"
    )
    queries.run(connection, statement, id=pull_id, status=status, error=error, postponed=list(postponed))


def add(connection: Connection, pull_id: int, **counted: int) -> None:
    """Count what was done for a pull that is not running."""
    sets = ", ".join(f"{name} = {name} + :{name}" for name in counted)
    statement = f"UPDATE headshotpro.pulls SET {sets} WHERE id = :id"  # noqa: S608 - names of our own columns
    queries.run(connection, statement, id=pull_id, **counted)


# The most rows of a part of a pull's page.
MAX_PART = 100


def page(
    connection: Connection, kind: str | None, status: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Pulls, the newest first; `total` is how many models the list has, null until a page was read or after the end.

    `before`: those with smaller ids.
    """
    statement = """
        SELECT p.*, (c.state #>> '{walk,total}')::bigint AS total
        FROM headshotpro.pulls AS p LEFT JOIN headshotpro.pull_checkpoints AS c ON c.pull_id = p.id
        WHERE (CAST(:kind AS text) IS NULL OR p.kind = :kind) AND (CAST(:status AS text) IS NULL OR p.status = :status)
            AND (CAST(:before AS bigint) IS NULL OR p.id < :before)
        ORDER BY p.id DESC LIMIT :limit
    """
    return queries.rows(connection, statement, kind=kind, status=status, before=before, limit=limit)


def one_with_total(connection: Connection, pull_id: int) -> dict[str, Any] | None:
    """One pull, as `page` shows it."""
    return next(iter(page(connection, None, None, pull_id + 1, 1)), None)


def newest(connection: Connection, kind: str, status: str) -> dict[str, Any] | None:
    """The newest pull of a kind with a status."""
    return next(iter(queries.newest(connection, "pulls", 1, kind=kind, status=status)), None)


def suspects(connection: Connection, pull_id: int) -> list[dict[str, Any]]:
    """Models that a held pull did not show, in the order of their ids: what the mirror knows, and `kept_until`."""
    statement = """
        SELECT h.model_id, h.kept_until, m.title, m.status, m.created_at, m.observed_at
        FROM headshotpro.held_suspects AS h LEFT JOIN headshotpro.models AS m ON m.id = h.model_id
        WHERE h.pull_id = :pull_id ORDER BY h.model_id LIMIT :limit
    """
    return queries.rows(connection, statement, pull_id=pull_id, limit=MAX_PART)


def changes(connection: Connection, pull_id: int) -> list[dict[str, Any]]:
    """The newest changes that a pull made."""
    return queries.newest(connection, "model_changes", MAX_PART, pull_id=pull_id)


def differences(connection: Connection, pull_id: int) -> list[dict[str, Any]]:
    """The newest differences between mirror and upstream that a pull found."""
    return queries.newest(connection, "accuracy_checks", MAX_PART, pull_id=pull_id, agreed=False)


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

"""Subscriptions as people see them: add, list, pause, resume, replay, rotate, remove.

Each function runs in its caller's transaction, in which the caller also records the act. The process that sends reads
the rows each second: it sees what was changed here within that time.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.storage import history, queries

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_SUBSCRIPTIONS = 100
ACTIVE, PAUSED, FAILING, DISABLED = "active", "paused", "failing", "disabled"
# For how long the secret before a rotation signs, too.
OLD_SECRET_HOURS = 24
# Held while a subscription is added: two at a time could pass the limit together.
_ADD_LOCK = 0x48535355


def add(connection: Connection, secret: str, **wanted: Any) -> bool | None:
    """Add a subscription; it is sent what changes from now on.

    `wanted` holds its columns; `statuses` and `teams` may be empty.

    Returns:
        False where there are as many as there may be; None where the name is taken.
    """
    queries.run(connection, "SELECT pg_advisory_xact_lock(:lock)", lock=_ADD_LOCK)
    count = int(queries.value(connection, "SELECT count(*) FROM headshotpro.subscriptions"))
    if count >= MAX_SUBSCRIPTIONS:
        return False
    lists = {name: list(wanted[name]) or None for name in ("statuses", "teams")}
    return True if queries.run(connection, _ADD, **(wanted | lists), secret=secret) else None


_ADD = """
    INSERT INTO headshotpro.subscriptions
        (name, url, statuses, teams, with_personal_data, batch, state, secret, cursor, read_to, created_at)
    SELECT :name, :url, CAST(:statuses AS text[]), CAST(:teams AS text[]), :with_personal_data, :batch, 'active',
        :secret, newest + 1, newest, now()
    FROM (SELECT coalesce(max(id), 0) AS newest FROM headshotpro.model_changes) AS feed
    ON CONFLICT (name) DO NOTHING
"""


def list_rows(connection: Connection) -> list[dict[str, Any]]:
    """All subscriptions in the order of their names, without secrets.

    Besides the columns: `waiting`, how many changes were read for it and not acknowledged, `failing_since`, when the
    first request failed whose changes are among them, and `unread`, how far its reading is behind the feed, in ids.
    `failed_reason` is null while `failing_since` is, and `previous_secret_until` once that secret signs no more.
    """
    return queries.rows(connection, _LIST, name=None)


def one(connection: Connection, name: str) -> dict[str, Any] | None:
    """A subscription as `list_rows` has it; None where there is none of this name."""
    return queries.row(connection, _LIST, name=name)


_LIST = """
    SELECT s.id, s.name, s.url, s.state, s.reason, s.statuses, s.teams, s.with_personal_data, s.batch, s.cursor,
        s.delivered, s.delivered_at, s.failed_at, s.failed_status, s.created_at, s.replays, s.holder,
        s.leased_until, CASE WHEN d.failing_since IS NOT NULL THEN s.failed_reason END AS failed_reason,
        CASE WHEN s.previous_secret_until > now() THEN s.previous_secret_until END AS previous_secret_until,
        d.failing_since, d.waiting,
        greatest(0, (SELECT coalesce(max(id), 0) FROM headshotpro.model_changes) - s.read_to) AS unread
    FROM headshotpro.subscriptions AS s CROSS JOIN LATERAL (
        SELECT count(*) AS waiting, min(first_failed_at) AS failing_since
        FROM headshotpro.subscription_deliveries WHERE subscription_id = s.id
    ) AS d
    WHERE CAST(:name AS text) IS NULL OR s.name = :name
    ORDER BY s.name
"""


def list_deliveries(connection: Connection, subscription_id: int, limit: int) -> list[dict[str, Any]]:
    """The changes that a subscription has not acknowledged, in the order of the feed."""
    return queries.rows(connection, f"{WAITING} LIMIT :limit", id=subscription_id, limit=limit)


WAITING = """
    SELECT change_id, model_id, batch, attempts, first_failed_at, due_at, status, error
    FROM headshotpro.subscription_deliveries WHERE subscription_id = :id ORDER BY change_id
"""


def list_recent_requests(connection: Connection, subscription_id: int) -> list[dict[str, Any]]:
    """The newest requests of a subscription, the newest first: see the column `recent_requests`."""
    statement = "SELECT recent_requests FROM headshotpro.subscriptions WHERE id = :id"
    return list(queries.value(connection, statement, id=subscription_id) or ())


def secrets(connection: Connection, name: str) -> list[str]:
    """The secrets that sign a subscription's requests now, the newest first; empty where it does not exist."""
    statement = """
        SELECT secret, CASE WHEN previous_secret_until > now() THEN previous_secret END
        FROM headshotpro.subscriptions WHERE name = :name
    """
    row = queries.execute(connection, statement, name=name).one_or_none()
    return [secret for secret in row or () if secret]


def pause(connection: Connection, name: str) -> bool:
    """Send nothing until it is resumed; False where it is disabled or there is none."""
    statement = """
        UPDATE headshotpro.subscriptions SET state = 'paused', reason = NULL
        WHERE name = :name AND state <> 'disabled'
    """
    return queries.run(connection, statement, name=name) > 0


def resume(connection: Connection, name: str) -> bool:
    """Go on from the cursor at once, as if nothing had failed; False where there is none of this name."""
    found = queries.run(connection, _RESUME, name=name) > 0
    if found:
        queries.run(connection, _FORGET_FAILURES, name=name)
    return found


# The sender has given up a paused one; of any other it has to forget the failures, too.
_RESUME = """
    UPDATE headshotpro.subscriptions
    SET state = 'active', reason = NULL, version = version + CAST(state <> 'paused' AS integer)
    WHERE name = :name
"""
_FORGET_FAILURES = """
    UPDATE headshotpro.subscription_deliveries SET attempts = 0, first_failed_at = NULL, due_at = NULL
    WHERE subscription_id = (SELECT id FROM headshotpro.subscriptions WHERE name = :name)
"""


def replay(connection: Connection, name: str, since: int | datetime | None) -> int | None:
    """Send changes again, as new requests, from a change or time on; a disabled or failing subscription goes on.

    `since` is the first change, or the time from which on it was recorded; None: every change that is kept.

    Returns:
        The first change that is sent again; None where the subscription does not exist.
    """
    begin = history.first_since(connection, since) if isinstance(since, datetime) else since or 0
    first: int | None = queries.value(connection, _REPLAY, name=name, begin=begin)
    if first is not None:
        queries.run(connection, _DROP_DELIVERIES, name=name)
    return first


_REPLAY = """
    UPDATE headshotpro.subscriptions
    SET cursor = first, read_to = first - 1, replays = replays + 1, version = version + 1, reason = NULL,
        state = CASE WHEN state = 'paused' THEN 'paused' ELSE 'active' END
    FROM (
        SELECT coalesce(
            (SELECT min(id) FROM headshotpro.model_changes WHERE id >= CAST(:begin AS bigint)),
            (SELECT coalesce(max(id), 0) + 1 FROM headshotpro.model_changes)
        ) AS first
    ) AS feed
    WHERE name = :name
    RETURNING cursor
"""
_DROP_DELIVERIES = """
    DELETE FROM headshotpro.subscription_deliveries
    WHERE subscription_id = (SELECT id FROM headshotpro.subscriptions WHERE name = :name)
"""


def rotate(connection: Connection, name: str, secret: str) -> bool:
    """Sign with a new secret, and for 24 hours with the present one too; False where there is none of this name.

    After a second rotation within that time the present secret and the new one sign: two at most.
    """
    statement = """
        UPDATE headshotpro.subscriptions SET previous_secret = secret, secret = :secret,
            previous_secret_until = now() + make_interval(hours => :hours)
        WHERE name = :name
    """
    return queries.run(connection, statement, name=name, secret=secret, hours=OLD_SECRET_HOURS) > 0


def remove(connection: Connection, name: str) -> bool:
    """Remove a subscription with all that waits for it; False where there is none of this name."""
    return queries.run(connection, "DELETE FROM headshotpro.subscriptions WHERE name = :name", name=name) > 0

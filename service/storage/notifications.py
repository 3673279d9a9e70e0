"""The outbox: notifications, and which receiver has got which of them.

A receiver is one of ALERT_URLS, stored as a digest alone: the URL holds secrets. A notification is written in its
alert's own transaction, waits for others of its window, and is then released: one delivery for each receiver. It counts
as sent when it is marked so, after the receiver took it; a delivery that a process died with is sent again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

# After this the claim of a process that died ends; longer than a delivery can take.
LEASE_SECONDS = 60.0
FIRST_RETRY_SECONDS = 10.0
MAX_RETRY_SECONDS = 900.0
RETENTION_DAYS = 7


def record_past_summary(connection: Connection, detail: Mapping[str, Any] | None) -> None:
    """Note that the first summary is made, and add a notification where there is something to report."""
    queries.run(connection, "UPDATE headshotpro.alert_evaluator SET first_summary_at = now()")
    if detail is not None:
        statement = """
            INSERT INTO headshotpro.notifications (reason, created_at, detail)
            VALUES ('first_summary', now(), CAST(:detail AS jsonb))
        """
        queries.run(connection, statement, detail=json.dumps(detail))


def window_passed(connection: Connection, window: float) -> bool:
    """Whether the oldest notification that is not released has waited for `window` seconds."""
    statement = (
        "SELECT EXISTS (SELECT FROM headshotpro.notifications "
        "WHERE released_at IS NULL AND created_at <= now() - make_interval(secs => :window))"
    )
    return bool(queries.value(connection, statement, window=window))


def release(connection: Connection) -> None:
    """Release every notification that waits, but for alerts that opened and were resolved meanwhile."""
    queries.run(connection, _FORGET_BLIPS)
    queries.run(connection, _RELEASE)


_FORGET_BLIPS = """
    DELETE FROM headshotpro.notifications WHERE released_at IS NULL AND alert_id IN (
        SELECT alert_id FROM headshotpro.notifications WHERE released_at IS NULL AND reason IN ('opened', 'resolved')
        GROUP BY alert_id HAVING count(*) = 2
    )
"""
_RELEASE = """
    WITH released AS (
        UPDATE headshotpro.notifications SET released_at = now() WHERE released_at IS NULL
        RETURNING id, reason, alert_id
    ), notified AS (
        UPDATE headshotpro.alerts SET last_notified_at = now()
        WHERE id IN (SELECT alert_id FROM released WHERE reason = 'opened')
    )
    INSERT INTO headshotpro.notification_deliveries (receiver, notification_id)
    SELECT r.digest, released.id FROM released CROSS JOIN headshotpro.receivers AS r WHERE r.is_configured
"""


def release_reminders(connection: Connection, interval: float) -> None:
    """Release reminders of open, unacknowledged alerts, when the oldest notification of one is `interval` seconds old.

    Alerts that were notified in the younger half of the interval wait for the next time. While other notifications
    wait for their window, reminders wait with them.
    """
    statement = """
        WITH due AS (
            UPDATE headshotpro.alerts SET last_notified_at = now()
            WHERE resolved_at IS NULL AND acknowledged_at IS NULL
                AND last_notified_at <= now() - make_interval(secs => :interval / 2.0)
                AND EXISTS (
                    SELECT FROM headshotpro.alerts WHERE resolved_at IS NULL AND acknowledged_at IS NULL
                        AND last_notified_at <= now() - make_interval(secs => :interval)
                )
                AND NOT EXISTS (SELECT FROM headshotpro.notifications WHERE released_at IS NULL)
            RETURNING id
        ), made AS (
            INSERT INTO headshotpro.notifications (reason, alert_id, created_at, released_at)
            SELECT 'reminder', id, now(), now() FROM due ORDER BY id RETURNING id
        )
        INSERT INTO headshotpro.notification_deliveries (receiver, notification_id)
        SELECT r.digest, made.id FROM made CROSS JOIN headshotpro.receivers AS r WHERE r.is_configured
    """
    queries.run(connection, statement, interval=interval)


def set_receivers(connection: Connection, digests: Sequence[str]) -> None:
    """Make these the receivers; a new one gets the open alerts, and the first summary if no receiver has got it."""
    for statement in (_ADD_RECEIVERS, _SET_RECEIVERS):
        queries.run(connection, statement, digests=list(digests))


_ADD_RECEIVERS = """
    WITH added AS (
        INSERT INTO headshotpro.receivers (digest, is_configured, retry_at)
        SELECT DISTINCT digest, true, now() FROM unnest(CAST(:digests AS text[])) AS given (digest)
        ON CONFLICT DO NOTHING
        RETURNING digest
    )
    INSERT INTO headshotpro.notification_deliveries (receiver, notification_id)
    SELECT added.digest, n.id FROM added CROSS JOIN headshotpro.notifications AS n
    LEFT JOIN headshotpro.alerts AS a ON a.id = n.alert_id
    WHERE n.released_at IS NOT NULL AND (
        (n.reason = 'opened' AND a.resolved_at IS NULL AND a.acknowledged_at IS NULL)
        OR (n.reason = 'first_summary' AND NOT EXISTS (
            SELECT FROM headshotpro.notification_deliveries AS d
            WHERE d.notification_id = n.id AND d.sent_at IS NOT NULL
        ))
    )
"""
_SET_RECEIVERS = """
    UPDATE headshotpro.receivers SET is_configured = digest = ANY(CAST(:digests AS text[]))
    WHERE is_configured <> (digest = ANY(CAST(:digests AS text[])))
"""


def due_receivers(connection: Connection, digests: Sequence[str]) -> list[str]:
    """The receivers that have unsent notifications and may be tried now."""
    statement = """
        SELECT digest FROM headshotpro.receivers AS r
        WHERE digest = ANY(CAST(:digests AS text[])) AND retry_at <= now() AND EXISTS (
            SELECT FROM headshotpro.notification_deliveries AS d WHERE d.receiver = r.digest AND d.sent_at IS NULL
        )
    """
    return queries.column(connection, statement, digests=list(digests))


def claim(connection: Connection, digest: str) -> bool:
    """Claim a receiver, unless another process has claimed it."""
    statement = (
        "UPDATE headshotpro.receivers SET retry_at = now() + make_interval(secs => :lease) "
        "WHERE digest = :digest AND retry_at <= now()"
    )
    return queries.run(connection, statement, digest=digest, lease=LEASE_SECONDS) == 1


def unsent(connection: Connection, digest: str) -> list[dict[str, Any]]:
    """The notifications that a receiver has not got, oldest first, with the present state of the alert.

    `detail` is the notification's own, else that of its alert. Those about no alert have an empty `kind`.
    """
    statement = """
        SELECT n.id, n.reason, n.created_at AS at, coalesce(n.detail, a.detail) AS detail, n.alert_id,
            coalesce(a.kind, '') AS kind, a.model_id, a.opened_at,
            a.resolved_at IS NULL AND a.acknowledged_at IS NULL AS still_open
        FROM headshotpro.notification_deliveries AS d JOIN headshotpro.notifications AS n ON n.id = d.notification_id
        LEFT JOIN headshotpro.alerts AS a ON a.id = n.alert_id
        WHERE d.receiver = :digest AND d.sent_at IS NULL ORDER BY n.id
    """
    return queries.rows(connection, statement, digest=digest)


def titles(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The titles of models, where they have one."""
    statement = "SELECT id, title FROM headshotpro.models WHERE id = ANY(CAST(:ids AS text[])) AND title IS NOT NULL"
    return {row.id: row.title for row in queries.execute(connection, statement, ids=list(ids))}


def mark_sent(connection: Connection, digest: str, ids: Sequence[int]) -> None:
    """The receiver took these notifications."""
    sent = """
        UPDATE headshotpro.notification_deliveries SET sent_at = now()
        WHERE receiver = :digest AND notification_id = ANY(CAST(:ids AS bigint[]))
    """
    queries.run(connection, sent, digest=digest, ids=list(ids))
    well = "UPDATE headshotpro.receivers SET retry_at = now(), failures = 0, error = NULL WHERE digest = :digest"
    queries.run(connection, well, digest=digest)


def record_failure(connection: Connection, digest: str, error: str) -> int:
    """The receiver took nothing: it is tried again after a pause that doubles. Returns the failures in a row."""
    statement = """
        UPDATE headshotpro.receivers SET failures = failures + 1, error = :error,
            retry_at = now() + make_interval(secs => least(:first * 2.0 ^ least(failures, 20), :longest))
        WHERE digest = :digest RETURNING failures
    """
    pauses = {"first": FIRST_RETRY_SECONDS, "longest": MAX_RETRY_SECONDS}
    return int(queries.value(connection, statement, digest=digest, error=error, **pauses))


def delete_old(connection: Connection) -> None:
    """Delete notifications that were released RETENTION_DAYS ago, sent or not. One that reports an open alert stays."""
    statement = """
        DELETE FROM headshotpro.notifications AS n WHERE released_at < now() - make_interval(days => :days)
            AND (reason = 'reminder' OR NOT EXISTS (
                SELECT FROM headshotpro.alerts AS a WHERE a.id = n.alert_id AND a.resolved_at IS NULL
            ))
    """
    queries.run(connection, statement, days=RETENTION_DAYS)

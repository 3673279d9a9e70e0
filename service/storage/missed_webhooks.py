"""Changes that a pull found and no webhook announced in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection


# A webhook that is this late is counted as missed.
GRACE_SECONDS = 300.0

# A webhook announces a pull's finding where it was received no later than five minutes after, and is of a time
# after the model's status before (else it announced that one) and up to the finding (else it announces a later one; ten
# seconds are for clocks that differ). One without a time has come shortly before the finding, or after it.
_COUNT = text(
    """
    UPDATE headshotpro.pulls AS p SET webhooks_checked_at = now(), missed_webhooks = CASE
        WHEN NOT EXISTS (
            SELECT FROM headshotpro.pulls AS first
            WHERE first.kind = 'full' AND first.status = 'complete' AND first.finished_at <= p.started_at
        ) THEN 0
        ELSE (
            SELECT count(*) FROM headshotpro.model_changes AS c
            LEFT JOIN LATERAL (
                SELECT earlier.observed_at FROM headshotpro.model_changes AS earlier
                WHERE earlier.model_id = c.model_id AND earlier.id < c.id AND earlier.to_status IS NOT NULL
                ORDER BY earlier.id DESC LIMIT 1
            ) AS before ON true
            WHERE c.pull_id = p.id AND c.to_status IS NOT NULL AND NOT EXISTS (
                SELECT FROM headshotpro.webhook_events AS e
                WHERE e.model_id = c.model_id AND e.received_at <= c.recorded_at + make_interval(secs => :grace)
                    AND CASE WHEN e.created_at IS NULL THEN e.received_at > c.recorded_at - interval '1 minute'
                        ELSE e.created_at > coalesce(before.observed_at, '-infinity')
                            AND e.created_at <= c.recorded_at + interval '10 seconds' END
            )
        ) END
    WHERE p.webhooks_checked_at IS NULL AND p.finished_at < now() - make_interval(secs => :grace)
    """
)


def count(connection: Connection) -> int:
    """Count, for pulls that ended at least `GRACE_SECONDS` ago, the changes whose webhook has still not come.

    Pulls before the first complete one find the past, and count none.

    Returns:
        How many pulls were checked.
    """
    return connection.execute(_COUNT, {"grace": GRACE_SECONDS}).rowcount


def any_unchecked(connection: Connection) -> bool:
    """Whether any pull waits to have its missed webhooks counted."""
    statement = text(
        "SELECT EXISTS (SELECT FROM headshotpro.pulls WHERE webhooks_checked_at IS NULL "
        "AND finished_at < now() - make_interval(secs => :grace))"
    )
    return bool(connection.execute(statement, {"grace": GRACE_SECONDS}).scalar())

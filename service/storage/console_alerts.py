"""Queries of the console's page of alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The most open alerts on the page; a vendor's outage opens one for each model.
MAX_OPEN = 200


def list_open(connection: Connection, kind: str | None) -> list[dict[str, Any]]:
    """Open alerts, those about the mirror first, then the newest."""
    return queries.rows(connection, _OPEN, kind=kind, limit=MAX_OPEN)


_OPEN = """
    SELECT a.id, a.kind, a.model_id, a.opened_at, a.acknowledged_at, a.last_notified_at, a.detail
    FROM headshotpro.alerts AS a
    WHERE a.resolved_at IS NULL AND (CAST(:kind AS text) IS NULL OR a.kind = :kind)
    ORDER BY a.model_id IS NOT NULL, a.id DESC LIMIT :limit
"""


def page(connection: Connection, kind: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Resolved alerts, the newest first. `before`: those with smaller ids."""
    return queries.rows(connection, _HISTORY, kind=kind, before=before, limit=limit)


_HISTORY = """
    SELECT id, kind, model_id, opened_at, resolved_at, acknowledged_at, detail FROM headshotpro.alerts
    WHERE resolved_at IS NOT NULL AND (CAST(:kind AS text) IS NULL OR kind = :kind)
        AND (CAST(:before AS bigint) IS NULL OR id < :before)
    ORDER BY id DESC LIMIT :limit
"""


def one(connection: Connection, alert_id: int) -> dict[str, Any] | None:
    """One alert, open or resolved."""
    return queries.row(connection, "SELECT * FROM headshotpro.alerts WHERE id = :id", id=alert_id)


def receivers(connection: Connection) -> list[dict[str, Any]]:
    """Every receiver: what waits for it, when it last took a notification, and why the last attempt failed."""
    return queries.rows(connection, _RECEIVERS)


_RECEIVERS = """
    SELECT r.digest, r.is_configured, r.failures, r.error, r.retry_at, sent.sent_at, waiting.waiting
    FROM headshotpro.receivers AS r
    LEFT JOIN LATERAL (
        SELECT max(d.sent_at) AS sent_at FROM headshotpro.notification_deliveries AS d WHERE d.receiver = r.digest
    ) AS sent ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting FROM headshotpro.notification_deliveries AS d
        WHERE d.receiver = r.digest AND d.sent_at IS NULL
    ) AS waiting
    ORDER BY r.is_configured DESC, r.digest
"""

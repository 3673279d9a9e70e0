"""`alerts`: open, resolve, acknowledge, list. Each change writes its notification in the same statement."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

# One process evaluates at a time; another one skips its turn.
EVALUATOR_LOCK = 0x4853414C


def try_lock_evaluator(connection: Connection) -> bool:
    """Whether this transaction may evaluate alerts; no other one does until it ends."""
    return bool(queries.value(connection, "SELECT pg_try_advisory_xact_lock(:lock)", lock=EVALUATOR_LOCK))


def list_open(connection: Connection) -> list[dict[str, Any]]:
    """`id`, `kind` and `model_id` of every open alert."""
    return queries.rows(connection, "SELECT id, kind, model_id FROM headshotpro.alerts WHERE resolved_at IS NULL")


def unacknowledged_kinds(connection: Connection) -> list[str]:
    """The kinds of open alerts about the mirror (not about a model) that are not acknowledged."""
    statement = (
        "SELECT kind FROM headshotpro.alerts "
        "WHERE resolved_at IS NULL AND acknowledged_at IS NULL AND model_id IS NULL ORDER BY kind"
    )
    return queries.column(connection, statement)


def right_signature_at(connection: Connection) -> datetime | None:
    """When the last delivery was accepted since a minute before the open alert about wrong signatures; None if none."""
    statement = (
        "SELECT e.newest FROM headshotpro.alerts AS a "
        "JOIN (SELECT max(received_at) AS newest FROM headshotpro.webhook_events) AS e "
        "ON e.newest > a.opened_at - interval '1 minute' WHERE a.kind = 'signatures_refused' AND a.resolved_at IS NULL"
    )
    found: datetime | None = queries.value(connection, statement)
    return found


def open_new(
    connection: Connection, found: Sequence[tuple[str, str | None, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Open alerts, each a kind, a model or None, and what was seen; one that is open already stays as it is.

    Returns:
        `alert_id`, `kind` and `model_id` of those that were opened.
    """
    kinds, models = [kind for kind, _, _ in found], [model_id for _, model_id, _ in found]
    details = [json.dumps(detail) for _, _, detail in found]
    statement = """
        WITH opened AS (
            INSERT INTO headshotpro.alerts (kind, model_id, opened_at, detail)
            SELECT kind, model_id, now(), CAST(detail AS jsonb)
            FROM unnest(CAST(:kinds AS text[]), CAST(:models AS text[]), CAST(:details AS text[]))
                AS new (kind, model_id, detail)
            ORDER BY kind, model_id
            ON CONFLICT DO NOTHING
            RETURNING id, kind, model_id
        ), notified AS (
            INSERT INTO headshotpro.notifications (reason, alert_id, created_at)
            SELECT 'opened', id, now() FROM opened ORDER BY id
        )
        SELECT id AS alert_id, kind, model_id FROM opened
    """
    return queries.rows(connection, statement, kinds=kinds, models=models, details=details)


def resolve(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Resolve open alerts: `alert_id`, `kind` and `model_id` of those that were open."""
    statement = """
        WITH resolved AS (
            UPDATE headshotpro.alerts SET resolved_at = now()
            WHERE id = ANY(CAST(:ids AS bigint[])) AND resolved_at IS NULL
            RETURNING id, kind, model_id
        ), notified AS (
            INSERT INTO headshotpro.notifications (reason, alert_id, created_at)
            SELECT 'resolved', id, now() FROM resolved ORDER BY id
        )
        SELECT id AS alert_id, kind, model_id FROM resolved
    """
    return queries.rows(connection, statement, ids=list(ids))


def acknowledge(connection: Connection, ids: Sequence[int] | None) -> set[int]:
    """Acknowledge open alerts; all where `ids` is None.

    Returns:
        The ids of those that are open, also where they were acknowledged before.
    """
    # Wait for a running evaluation: two transactions that write the same alerts in another order would stop each other.
    queries.run(connection, "SELECT pg_advisory_xact_lock(:lock)", lock=EVALUATOR_LOCK)
    statement = """
        UPDATE headshotpro.alerts SET acknowledged_at = coalesce(acknowledged_at, now())
        WHERE resolved_at IS NULL AND (CAST(:ids AS bigint[]) IS NULL OR id = ANY(CAST(:ids AS bigint[])))
        RETURNING id
    """
    return set(queries.column(connection, statement, ids=None if ids is None else list(ids)))


def list_rows(
    connection: Connection, *, only_open: bool = False, kind: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Alerts, open ones first, then the newest."""
    statement = """
        SELECT id, kind, model_id, opened_at, resolved_at, acknowledged_at, detail FROM headshotpro.alerts
        WHERE (CAST(:kind AS text) IS NULL OR kind = :kind) AND (resolved_at IS NULL OR NOT :only_open)
        ORDER BY resolved_at IS NULL DESC, id DESC LIMIT :limit
    """
    return queries.rows(connection, statement, only_open=only_open, kind=kind, limit=limit)


# The most open alerts on the page; a vendor's outage opens one for each model.
MAX_OPEN = 200


def page_open(connection: Connection, kind: str | None) -> list[dict[str, Any]]:
    """Open alerts, those about the mirror first, then the newest."""
    statement = """
        SELECT a.id, a.kind, a.model_id, a.opened_at, a.acknowledged_at, a.last_notified_at, a.detail
        FROM headshotpro.alerts AS a
        WHERE a.resolved_at IS NULL AND (CAST(:kind AS text) IS NULL OR a.kind = :kind)
        ORDER BY a.model_id IS NOT NULL, a.id DESC LIMIT :limit
    """
    return queries.rows(connection, statement, kind=kind, limit=MAX_OPEN)


def page_resolved(connection: Connection, kind: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Resolved alerts, the newest first. `before`: those with smaller ids."""
    conditions = {"is_open": "(resolved_at IS NULL) = :is_open"}
    return queries.newest(connection, "alerts", limit, before, conditions, kind=kind, is_open=False)


def one(connection: Connection, alert_id: int) -> dict[str, Any] | None:
    """One alert, open or resolved."""
    return queries.row(connection, "SELECT * FROM headshotpro.alerts WHERE id = :id", id=alert_id)


def list_receivers(connection: Connection) -> list[dict[str, Any]]:
    """Every receiver: what waits for it, when it last took a notification, and why the last attempt failed."""
    statement = """
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
    return queries.rows(connection, statement)

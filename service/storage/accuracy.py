"""`accuracy_checks`: rows that were compared with the upstream, and the class of each difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.storage import arrays, queries
from service.storage.tables.accuracy import accuracy_checks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

# The longest period of the figures, and a day for the last of its checks to be decided.
RETENTION_DAYS = 29

# Postgres gives the id; the others are found later.
_LATER = {"id", "event_id", "looked_at"}
_CHECK_TYPES = arrays.column_types(
    accuracy_checks, [column.name for column in accuracy_checks.columns if column.name not in _LATER]
)
_RECORD = f"""
    INSERT INTO headshotpro.accuracy_checks ({", ".join(_CHECK_TYPES)})
    SELECT {", ".join(_CHECK_TYPES)} FROM {arrays.table(_CHECK_TYPES)}
    WHERE pull_id IS NULL OR EXISTS (
        SELECT FROM headshotpro.pulls AS p JOIN headshotpro.pulls AS first
            ON first.kind = 'full' AND first.status = 'complete' AND first.finished_at <= p.started_at
        WHERE p.id = new.pull_id
    )
    ORDER BY place
"""  # noqa: S608 - names of our own columns


def record(connection: Connection, checks: Sequence[Mapping[str, Any]]) -> None:
    """Write checks; the findings of pulls before the first complete full pull are not about the mirror's error.

    In the transaction that merges what was compared; takes mappings with the keys of `_CHECK_TYPES`.
    """
    if checks:
        queries.run(connection, _RECORD, **arrays.columns(_CHECK_TYPES, checks))


# Nothing changes about a difference but by its age, or by an event; an event that was processed in a transaction which
# committed a little later was not seen at the last look.
_UNDECIDED = """
    SELECT d.id, d.pull_id, d.model_id, d.checked_at, d.last_agreed_at, d.core_at, d.class, c.changed
    FROM headshotpro.accuracy_checks AS d
    LEFT JOIN LATERAL (
        SELECT changed FROM headshotpro.model_changes
        WHERE model_id = d.model_id AND recorded_at = d.checked_at AND source <> 'webhook' ORDER BY id LIMIT 1
    ) AS c ON true
    WHERE NOT d.agreed AND d.decided_at IS NULL AND d.id > :above AND (
        d.looked_at IS NULL OR d.checked_at <= :lost OR (d.class IS NULL AND d.checked_at <= :late)
        OR (d.looked_at < :looked_before AND EXISTS (
            SELECT FROM headshotpro.webhook_events AS e
            WHERE e.model_id = d.model_id AND e.processed_at > d.looked_at - interval '1 minute'
        ))
    )
    ORDER BY d.id LIMIT :limit
"""


def undecided(connection: Connection, above: int, limit: int, **times: datetime) -> list[dict[str, Any]]:
    """Differences whose class may be found or may change now, in the order of their ids.

    Those that were looked at later than `looked_before` wait. Those that were seen before `late` are late at least,
    and those seen before `lost` get their class for good.
    """
    return queries.rows(connection, _UNDECIDED, above=above, limit=limit, **times)


def events_about(connection: Connection, check_ids: Sequence[int], lost_after: timedelta) -> list[dict[str, Any]]:
    """The newest events about the models of some differences, with `check_id`, from before each difference on.

    One that arrived longer than `lost_after` after its difference was seen is left out.
    """
    statement = """
        SELECT d.id AS check_id, e.id, e.payload, e.created_at, e.received_at, e.processed_at, e.signed_at,
            e.status
        FROM headshotpro.accuracy_checks AS d CROSS JOIN LATERAL (
            SELECT * FROM headshotpro.webhook_events
            WHERE model_id = d.model_id AND payload IS NOT NULL
                -- No delivery arrives before it is signed: its own clock where ours is behind.
                AND greatest(received_at, signed_at)
                    > coalesce(d.last_agreed_at, d.checked_at - interval '1 day') - interval '2 minutes'
                AND received_at <= d.checked_at + CAST(:lost_after AS interval)
                -- What happened after the row was compared says nothing of it.
                AND (created_at IS NULL OR created_at - greatest(signed_at - received_at, interval '0 seconds')
                    <= d.checked_at + interval '10 seconds')
            ORDER BY coalesce(created_at, received_at) DESC LIMIT 20
        ) AS e
        WHERE d.id = ANY(CAST(:ids AS bigint[]))
    """
    return queries.rows(connection, statement, ids=list(check_ids), lost_after=lost_after)


_VERDICT_TYPES = {
    "id": "bigint",
    "class": "text",
    "event_id": "text",
    "final": "boolean",
    "stale_seconds": "float",
    "censored": "boolean",
}
_SAVE = f"""
    UPDATE headshotpro.accuracy_checks AS old SET class = new.class, event_id = new.event_id,
        stale_seconds = new.stale_seconds, censored = new.censored, looked_at = :now,
        decided_at = CASE WHEN new.final THEN :now END
    FROM {arrays.table(_VERDICT_TYPES)} WHERE old.id = new.id
"""  # noqa: S608 - names of our own columns


def save(connection: Connection, verdicts: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Write what was found of differences at a time; takes mappings with the keys of `_VERDICT_TYPES`."""
    if verdicts:
        queries.run(connection, _SAVE, **arrays.columns(_VERDICT_TYPES, verdicts), now=now)


def count_for_pulls(connection: Connection, pull_ids: Sequence[int]) -> int:
    """Count the differences and webhooks of some pulls, and of each that ended five minutes ago and was not counted.

    Returns:
        How many pulls were counted.
    """
    statement = """
        UPDATE headshotpro.pulls AS p SET rows_differed = found.differed, late_webhooks = found.late,
            lost_webhooks = found.lost, missed_webhooks = found.late + found.lost,
            webhooks_checked_at = CASE WHEN p.finished_at < now() - interval '5 minutes' THEN now() END
        FROM (
            SELECT one.id, count(d.id) AS differed, count(*) FILTER (WHERE d.class = 'late') AS late,
                count(*) FILTER (WHERE d.class = 'lost') AS lost
            FROM headshotpro.pulls AS one
            LEFT JOIN headshotpro.accuracy_checks AS d ON d.pull_id = one.id
            WHERE one.id = ANY(CAST(:ids AS bigint[]))
                OR (one.webhooks_checked_at IS NULL AND one.finished_at < now() - interval '5 minutes')
            GROUP BY one.id
        ) AS found
        WHERE p.id = found.id
    """
    return queries.run(connection, statement, ids=list(pull_ids))


def forget_counts(connection: Connection, pull_ids: Sequence[int]) -> None:
    """Note that the differences of some pulls have other classes than when they were counted."""
    statement = (
        "UPDATE headshotpro.pulls SET webhooks_checked_at = NULL "
        "WHERE id = ANY(CAST(:ids AS bigint[])) AND webhooks_checked_at IS NOT NULL"
    )
    queries.run(connection, statement, ids=list(pull_ids))


def any_undecided(connection: Connection) -> bool:
    """Whether a difference waits for its class, or a pull for the count of its webhooks."""
    statement = """
        SELECT EXISTS (SELECT FROM headshotpro.accuracy_checks WHERE NOT agreed AND decided_at IS NULL)
            OR EXISTS (
                SELECT FROM headshotpro.pulls
                WHERE webhooks_checked_at IS NULL AND finished_at < now() - interval '5 minutes'
            )
    """
    return bool(queries.value(connection, statement))


# The strata, as `service.mirror.accuracy.stratum_of` has them. Each row of `models` fulfills one; `:since`
# is the time after which one that became active is new. A model whose status is unknown, or not in the vendor's
# documents, may still change. An index serves ranges, but not `<>`.
_STRATA = {
    "tombstone": "status = 'deleted'",
    "active_new": "status = 'active' AND coalesce(finished_at, created_at) > :since",
    "active_old": "status = 'active' AND coalesce(coalesce(finished_at, created_at) <= :since, true)",
    "moving": "(status < 'active' OR (status > 'active' AND status < 'deleted') OR status > 'deleted'"
    " OR status IS NULL)",
}
_CASES = " ".join(f"WHEN {condition} THEN '{stratum}'" for stratum, condition in _STRATA.items())
_SIZES = f"SELECT CASE {_CASES} END AS stratum, count(*) FROM headshotpro.models GROUP BY 1"  # noqa: S608 - constants


def stratum_sizes(connection: Connection, active_new_since: datetime) -> dict[str, int]:
    """How many rows of the mirror each stratum has."""
    return {row[0]: row[1] for row in queries.execute(connection, _SIZES, since=active_new_since)}


def drawn_row(connection: Connection, stratum: str, active_new_since: datetime, place: float) -> dict[str, Any] | None:
    """A row of a stratum, with `with_details` (its details are known); None where the stratum is empty.

    `place` is that of the row among all of the stratum, in [0, 1): a random one makes each row as likely as any
    other.
    """
    condition = _STRATA[stratum]
    statement = f"""
        WITH drawn AS MATERIALIZED (
            SELECT id FROM headshotpro.models WHERE {condition} LIMIT 1
            OFFSET floor(:place * (SELECT count(*) FROM headshotpro.models WHERE {condition}))
        )
        SELECT m.id, m.status, c.detail_at IS NOT NULL AS with_details, c.core_at
        FROM drawn JOIN headshotpro.models AS m USING (id) JOIN headshotpro.model_clocks AS c ON c.model_id = m.id
    """  # noqa: S608 - constants
    return queries.row(connection, statement, since=active_new_since, place=place)


def settle_denied(connection: Connection) -> None:
    """Settle the samples whose live row a 404 denied: it is repaired once it is a tombstone, or was right all along."""
    # Each other difference is repaired when it is written. A page of the same seconds may still hold a deleted model.
    statement = """
        WITH denied AS MATERIALIZED (
            SELECT d.id, m.status = 'deleted' AS deleted, m.updated_at
            FROM headshotpro.accuracy_checks AS d JOIN headshotpro.models AS m ON m.id = d.model_id
            JOIN headshotpro.model_clocks AS c ON c.model_id = d.model_id
            WHERE d.repaired_at IS NULL AND NOT d.agreed
                AND (m.status = 'deleted' OR c.profile_at > d.checked_at + interval '10 seconds')
        ), repaired AS (
            UPDATE headshotpro.accuracy_checks AS d SET repaired_at = denied.updated_at
            FROM denied WHERE d.id = denied.id AND deleted
        )
        UPDATE headshotpro.accuracy_checks AS d SET agreed = true, fields = '{}', class = NULL, event_id = NULL,
            stale_seconds = NULL, censored = NULL, decided_at = now()
        FROM denied WHERE d.id = denied.id AND deleted IS NOT true
    """
    queries.run(connection, statement)


def list_checks(
    connection: Connection, method: str | None, verdict: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Accuracy checks, the newest first.

    The verdict is `agreed` or a class of differences; `before`: those with smaller ids.
    """
    conditions = {"verdict": "CASE WHEN agreed THEN 'agreed' ELSE coalesce(class, 'undecided') END = :verdict"}
    return queries.newest(connection, "accuracy_checks", limit, before, conditions, method=method, verdict=verdict)

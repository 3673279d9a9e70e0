"""`accuracy_checks` and `accuracy_figures`: what was compared with the upstream, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from service.model_fields import DETAIL, Source, columns_in, columns_of
from service.storage import json_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

# The longest period of the figures, and a day for the last of its checks to be decided.
RETENTION_DAYS = 29
# An event about a difference arrives at most this long after the difference was seen.
LOST_MINUTES = 90

_CHECK_TYPES = {
    "checked_at": "timestamptz",
    "method": "text",
    "pull_id": "bigint",
    "model_id": "text",
    "stratum": "text",
    "agreed": "boolean",
    "fields": "text[]",
    "last_agreed_at": "timestamptz",
    "core_at": "timestamptz",
    "class": "text",
    "decided_at": "timestamptz",
    "repaired_at": "timestamptz",
    "with_details": "boolean",
    "stale_seconds": "float",
    "censored": "boolean",
}
_RECORD = text(
    f"""
    INSERT INTO headshotpro.accuracy_checks ({", ".join(_CHECK_TYPES)})
    SELECT {", ".join(_CHECK_TYPES)} FROM {json_rows.table(_CHECK_TYPES)}
    WHERE pull_id IS NULL OR EXISTS (
        SELECT FROM headshotpro.pulls AS p JOIN headshotpro.pulls AS first
            ON first.kind = 'full' AND first.status = 'complete' AND first.finished_at <= p.started_at
        WHERE p.id = new.pull_id
    )
    ORDER BY place
    """  # noqa: S608 - names of our own columns
)


def record(connection: Connection, checks: Sequence[Mapping[str, Any]]) -> None:
    """Write checks; the findings of pulls before the first complete full pull are not about the mirror's error.

    Args:
        connection: the transaction that merges what was compared.
        checks: a mapping with the keys of `_CHECK_TYPES` for each.
    """
    if checks:
        connection.execute(_RECORD, {"rows": json_rows.encode_rows(checks)})


# Of a difference that counts as late, only an event of the last minutes or the end of the 90 minutes changes anything.
_UNDECIDED = text(
    """
    SELECT d.id, d.pull_id, d.model_id, d.checked_at, d.last_agreed_at, d.core_at, d.class, c.changed
    FROM headshotpro.accuracy_checks AS d
    LEFT JOIN LATERAL (
        SELECT changed FROM headshotpro.model_changes
        WHERE model_id = d.model_id AND recorded_at = d.checked_at AND source <> 'webhook' ORDER BY id LIMIT 1
    ) AS c ON true
    WHERE NOT d.agreed AND d.decided_at IS NULL AND d.id > :above AND (
        d.class IS NULL OR d.checked_at < now() - make_interval(mins => :lost_minutes) OR EXISTS (
            SELECT FROM headshotpro.webhook_events AS e
            WHERE e.model_id = d.model_id AND e.received_at > now() - interval '5 minutes'
        )
    )
    ORDER BY d.id LIMIT :limit
    """
)


def undecided(connection: Connection, above: int, limit: int) -> list[dict[str, Any]]:
    """Differences whose class may be found or may change now, in the order of their ids.

    Args:
        connection: a transaction.
        above: the id after which they begin.
        limit: how many at most.
    """
    values = {"above": above, "limit": limit, "lost_minutes": LOST_MINUTES}
    return [dict(row) for row in connection.execute(_UNDECIDED, values).mappings()]


_EVENTS = text(
    """
    SELECT d.id AS check_id, e.id, e.payload, e.created_at, e.received_at, e.signed_at, e.status
    FROM headshotpro.accuracy_checks AS d CROSS JOIN LATERAL (
        SELECT * FROM headshotpro.webhook_events
        WHERE model_id = d.model_id AND payload IS NOT NULL
            AND received_at > coalesce(d.last_agreed_at, d.checked_at - interval '1 day') - interval '2 minutes'
            AND received_at <= d.checked_at + make_interval(mins => :lost_minutes)
        ORDER BY received_at DESC LIMIT 20
    ) AS e
    WHERE d.id = ANY(CAST(:ids AS bigint[]))
    """
)


def events_about(connection: Connection, check_ids: Sequence[int]) -> list[dict[str, Any]]:
    """The newest events about the models of some differences, with `check_id`, from before each difference on."""
    values = {"ids": list(check_ids), "lost_minutes": LOST_MINUTES}
    return [dict(row) for row in connection.execute(_EVENTS, values).mappings()]


_VERDICT_TYPES = {
    "id": "bigint",
    "class": "text",
    "event_id": "text",
    "final": "boolean",
    "stale_seconds": "float",
    "censored": "boolean",
}
_SAVE = text(
    f"""
    UPDATE headshotpro.accuracy_checks AS old SET class = new.class, event_id = new.event_id,
        stale_seconds = new.stale_seconds, censored = new.censored,
        decided_at = CASE WHEN new.final THEN now() END
    FROM {json_rows.table(_VERDICT_TYPES)} WHERE old.id = new.id
        AND (new.final OR old.class IS DISTINCT FROM new.class OR old.event_id IS DISTINCT FROM new.event_id)
    """  # noqa: S608 - names of our own columns
)


def save(connection: Connection, verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Write what was found of differences; takes mappings with the keys of `_VERDICT_TYPES`."""
    if verdicts:
        connection.execute(_SAVE, {"rows": json_rows.encode_rows(verdicts)})


_COUNT = text(
    """
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
)


def count_for_pulls(connection: Connection, pull_ids: Sequence[int]) -> int:
    """Count the differences and webhooks of some pulls, and of each that ended five minutes ago and was not counted.

    Returns:
        How many pulls were counted.
    """
    return connection.execute(_COUNT, {"ids": list(pull_ids)}).rowcount


def any_undecided(connection: Connection) -> bool:
    """Whether a difference waits for its class, or a pull for the count of its webhooks."""
    statement = text(
        """
        SELECT EXISTS (SELECT FROM headshotpro.accuracy_checks WHERE NOT agreed AND decided_at IS NULL)
            OR EXISTS (
                SELECT FROM headshotpro.pulls
                WHERE webhooks_checked_at IS NULL AND finished_at < now() - interval '5 minutes'
            )
        """
    )
    return bool(connection.execute(statement).scalar())


class Findings(NamedTuple):
    """The comparisons of a period.

    Attributes:
        pulls: of each full pull the rows that it compared, and those that were wrong for ten seconds or longer.
        samples: of each stratum the samples, those wrong in a field of the list, those that compared details, and those
            wrong in a detail.
        staleness: p50, p95, p99 and the maximum of the seconds for which wrong rows were wrong; None without any.
        censored_share: share of those of which only the upper end of an interval is known.
        late: webhooks that were late.
        lost: webhooks that were lost.
        unexplained: differences that are our own fault.
        last_check_at: when a row was last compared.
    """

    pulls: list[tuple[int, int]]
    samples: dict[str, tuple[int, int, int, int]]
    staleness: tuple[float | None, float | None, float | None, float | None]
    censored_share: float | None
    late: int
    lost: int
    unexplained: int
    last_check_at: datetime | None


# A difference counts once it has a class. Before, its webhook may be on its way: it may be seconds old, and in a small
# mirror one row more exceeds every target.
_PULLS = text(
    """
    SELECT p.rows_compared, least(p.rows_compared, (
        SELECT count(*) FROM headshotpro.accuracy_checks AS d
        WHERE d.pull_id = p.id AND d.class IS NOT NULL AND coalesce(d.stale_seconds >= :tolerated, true)
    -- A suspect that a GET found alive and changed was on no page, so it is not among the compared rows.
    ))
    FROM headshotpro.pulls AS p
    WHERE p.kind = 'full' AND p.rows_compared > 0 AND p.started_at > now() - CAST(:period AS interval)
    """
)
_SAMPLES = text(
    """
    SELECT stratum, count(*), count(*) FILTER (WHERE class IS NOT NULL AND fields && CAST(:list_fields AS text[])
            AND coalesce(stale_seconds >= :tolerated, true)),
        count(*) FILTER (WHERE with_details),
        count(*) FILTER (WHERE with_details AND class IS NOT NULL AND fields && CAST(:detail_fields AS text[]))
    FROM headshotpro.accuracy_checks
    WHERE method = 'sample' AND stratum IS NOT NULL AND checked_at > now() - CAST(:period AS interval)
    GROUP BY stratum
    """
)
_DIFFERENCES = text(
    """
    SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99, 1.0]) WITHIN GROUP (ORDER BY stale_seconds),
        avg(CASE WHEN censored THEN 1.0 ELSE 0.0 END) FILTER (WHERE stale_seconds IS NOT NULL),
        count(*) FILTER (WHERE class = 'late'), count(*) FILTER (WHERE class = 'lost'),
        count(*) FILTER (WHERE class = 'unexplained'),
        (SELECT max(at) FROM (
            SELECT max(checked_at) FROM headshotpro.accuracy_checks
            UNION ALL SELECT max(finished_at) FROM headshotpro.pulls WHERE kind = 'full' AND rows_compared > 0
        ) AS newest (at))
    FROM headshotpro.accuracy_checks
    WHERE class IS NOT NULL AND checked_at > now() - CAST(:period AS interval) AND fields && CAST(:fields AS text[])
    """
)


def findings(connection: Connection, period: str, fields: Sequence[str], tolerated: float) -> Findings:
    """The comparisons of the last `period`.

    Args:
        connection: a transaction.
        period: an interval of Postgres, such as `28 days`.
        fields: the columns whose differences count for staleness and webhooks.
        tolerated: differences younger than this, in seconds, are no error.
    """
    values = {
        "period": period,
        "fields": list(fields),
        "list_fields": list(columns_of(Source.LIST)),
        "detail_fields": list(columns_in(DETAIL)),
        "tolerated": tolerated,
    }
    stale, censored, late, lost, unexplained, last_check_at = connection.execute(_DIFFERENCES, values).one()
    return Findings(
        [(compared, wrong) for compared, wrong in connection.execute(_PULLS, values)],
        {row[0]: (row[1], row[2], row[3], row[4]) for row in connection.execute(_SAMPLES, values)},
        tuple(stale) if stale else (None, None, None, None),
        None if censored is None else float(censored),
        late,
        lost,
        unexplained,
        last_check_at,
    )


def stratum_sizes(connection: Connection, active_new_since: datetime) -> dict[str, int]:
    """How many rows of the mirror each stratum has."""
    statement = text(
        """
        SELECT CASE WHEN status = 'deleted' THEN 'tombstone' WHEN status = 'active' THEN
                CASE WHEN coalesce(finished_at, created_at) > :since THEN 'active_new' ELSE 'active_old' END
            ELSE 'moving' END AS stratum, count(*)
        FROM headshotpro.models GROUP BY 1
        """
    )
    return {row[0]: row[1] for row in connection.execute(statement, {"since": active_new_since})}


FIGURES = (
    "period", "fields", "compared", "wrong", "rate", "lower_95", "upper_95", "bound_method", "stale_p50", "stale_p95",
    "stale_p99", "stale_max", "censored_share", "late_webhooks", "lost_webhooks", "unexplained", "last_check_at",
    "slo_target", "slo_met", "error_budget_left",
)  # fmt: skip
_WRITE = text(
    f"""
    INSERT INTO headshotpro.accuracy_figures ({", ".join(FIGURES)}, computed_at)
    VALUES ({", ".join(f":{name}" for name in FIGURES)}, now())
    ON CONFLICT (period, fields) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in (*FIGURES[2:], "computed_at"))}
    """  # noqa: S608 - names of our own columns
)


def write_figures(connection: Connection, figures: Sequence[Mapping[str, Any]]) -> None:
    """Replace the figures of periods; takes mappings with the keys of `FIGURES`."""
    for row in figures:
        connection.execute(_WRITE, row)


def read_figures(connection: Connection) -> list[dict[str, Any]]:
    """The rows of the view `accuracy`, the shortest period first."""
    statement = text("SELECT * FROM headshotpro.accuracy ORDER BY CAST(period AS interval), fields DESC")
    return [dict(row) for row in connection.execute(statement).mappings()]


class MeasuredAccuracy(NamedTuple):
    """How wrong the fields of the list were.

    Attributes:
        rate: share of wrong rows.
        upper: its upper 95 % bound.
        period: in which it was measured.
        at: when a row was last compared.
    """

    rate: float
    upper: float
    period: str
    at: datetime


_MEASURED = text(
    """
    SELECT rate, upper_95, period, last_check_at FROM headshotpro.accuracy_figures
    WHERE period = '28d' AND fields = 'list' AND rate IS NOT NULL AND last_check_at IS NOT NULL
    """
)


def measured(connection: Connection) -> MeasuredAccuracy | None:
    """The accuracy of the longest period; None while nothing was compared. One row of a table of six."""
    row = connection.execute(_MEASURED).one_or_none()
    return MeasuredAccuracy(*row) if row else None


# A random place in an index: every row of the stratum is as likely as any other.
_CONDITIONS = {
    "moving": "status = ANY(CAST(:moving AS text[]))",
    "active_new": "status = 'active' AND coalesce(finished_at, created_at) > :since",
    "active_old": "status = 'active' AND coalesce(finished_at, created_at) <= :since",
    "tombstone": "status = 'deleted'",
}


def random_row(
    connection: Connection, stratum: str, moving: Sequence[str], active_new_since: datetime
) -> dict[str, Any] | None:
    """A random row of a stratum, with `with_details` (its details are known); None where the stratum is empty."""
    condition = _CONDITIONS[stratum]
    statement = text(
        f"""
        WITH drawn AS MATERIALIZED (
            SELECT id FROM headshotpro.models WHERE {condition} LIMIT 1
            OFFSET floor(random() * (SELECT count(*) FROM headshotpro.models WHERE {condition}))
        )
        SELECT m.id, m.status, c.detail_at IS NOT NULL AS with_details, c.core_at
        FROM drawn JOIN headshotpro.models AS m USING (id) JOIN headshotpro.model_clocks AS c ON c.model_id = m.id
        """  # noqa: S608 - constants
    )
    row = connection.execute(statement, {"moving": list(moving), "since": active_new_since}).mappings().one_or_none()
    return dict(row) if row else None


_REPAIR = text(
    """
    UPDATE headshotpro.accuracy_checks AS d SET repaired_at = m.updated_at
    FROM headshotpro.models AS m
    WHERE d.repaired_at IS NULL AND NOT d.agreed AND m.id = d.model_id AND m.status = 'deleted'
    """
)


def note_repairs(connection: Connection) -> None:
    """Note when rows that a GET found deleted became tombstones."""
    connection.execute(_REPAIR)

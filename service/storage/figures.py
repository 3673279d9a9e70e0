"""What `/metrics` tells out of Postgres: right whichever processes did the work, and after each of their restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

# A scrape that takes longer than this is given up by then.
STATEMENT_TIMEOUT_MS = 3000


class PullFigures(NamedTuple):
    """All pulls of a kind.

    Attributes:
        kind: `full` or `hot`.
        by_status: how many there are in each status.
        complete: how many were complete.
        seconds: how long those took together.
        pages: pages that all of them read.
        changes: changes that all of them made: rows inserted, changed, tombstoned.
        missed_webhooks: changes they found that no webhook announced.
    """

    kind: str
    by_status: dict[str, int]
    complete: int
    seconds: float
    pages: int
    changes: int
    missed_webhooks: int


class Figures(NamedTuple):
    """The mirror at one moment; times are seconds, null where there is nothing to measure.

    Attributes:
        models: how many in each status.
        pull_age_seconds: since the last complete full pull.
        spooled_events: deliveries that wait in Postgres.
        oldest_spooled_seconds: age of the oldest of them.
        open_questions: what only a GET can tell, still to be asked.
        dead_events: events that could not be applied.
        open_alerts: alerts that are not resolved, by kind.
        pulls: by kind.
    """

    models: dict[str, int]
    pull_age_seconds: float | None
    spooled_events: int
    oldest_spooled_seconds: float | None
    open_questions: int
    dead_events: int
    open_alerts: dict[str, int]
    pulls: list[PullFigures]


_NOW = text(
    """
    SELECT models, pull_age_seconds, spooled_events,
        (SELECT extract(epoch FROM now() - min(received_at))::float8 FROM headshotpro.event_spool)
            AS oldest_spooled_seconds,
        (SELECT count(*) FROM headshotpro.wishes) AS open_questions,
        (SELECT count(*) FROM headshotpro.webhook_events WHERE status = 'dead') AS dead_events
    FROM headshotpro.mirror_status
    """
)
_ALERTS = text("SELECT kind, count(*) FROM headshotpro.alerts WHERE resolved_at IS NULL GROUP BY kind")
_PULLS = text(
    """
    SELECT kind, jsonb_object_agg(status, number) AS by_status,
        coalesce(sum(number) FILTER (WHERE status = 'complete'), 0)::bigint AS complete,
        coalesce(sum(seconds) FILTER (WHERE status = 'complete'), 0)::float8 AS seconds,
        sum(pages)::bigint AS pages, sum(changes)::bigint AS changes, sum(missed_webhooks)::bigint AS missed_webhooks
    FROM (
        SELECT kind, status, count(*) AS number, sum(extract(epoch FROM finished_at - started_at)) AS seconds,
            sum(pages) AS pages, sum(inserted + changed + tombstoned) AS changes,
            sum(missed_webhooks) AS missed_webhooks
        FROM headshotpro.pulls GROUP BY kind, status
    ) AS counted GROUP BY kind
    """
)


def figures(connection: Connection) -> Figures:
    """The mirror as it stands now.

    Args:
        connection: a transaction of this alone.
    """
    connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
    now: dict[str, Any] = dict(connection.execute(_NOW).mappings().one())
    alerts = {row[0]: row[1] for row in connection.execute(_ALERTS)}
    pulls = [PullFigures(**row) for row in connection.execute(_PULLS).mappings()]
    return Figures(open_alerts=alerts, pulls=pulls, **now)

"""`status_samples`: how many models were in each status over time; counting them takes too long for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

INTERVAL_SECONDS = 300
RETENTION_DAYS = 31


def add_if_due(connection: Connection) -> None:
    """Count the models now, unless the newest sample is younger than five minutes; delete those over 31 days old."""
    queries.run(connection, _ADD, interval=INTERVAL_SECONDS)
    queries.run(connection, _DELETE_OLD, days=RETENTION_DAYS)


_ADD = """
    INSERT INTO headshotpro.status_samples (at, models)
    SELECT now(), models FROM headshotpro.mirror_status
    WHERE NOT EXISTS (
        SELECT FROM headshotpro.status_samples WHERE at > now() - make_interval(secs => :interval)
    )
    ON CONFLICT DO NOTHING
"""
_DELETE_OLD = "DELETE FROM headshotpro.status_samples WHERE at < now() - make_interval(days => :days)"


def count_now(connection: Connection) -> Mapping[str, int]:
    """How many models are in each status now; it reads an index of all models."""
    counted: dict[str, int] = queries.value(connection, "SELECT models FROM headshotpro.mirror_status")
    return counted


def newest(connection: Connection) -> dict[str, Any] | None:
    """The newest sample: `at` and `models`; None before the first one."""
    return queries.row(connection, "SELECT at, models FROM headshotpro.status_samples ORDER BY at DESC LIMIT 1")


def series(connection: Connection, hours: int, step_seconds: int) -> list[dict[str, Any]]:
    """The last sample of each step, the oldest first; `at` is the beginning of the step."""
    return queries.rows(connection, _SERIES, hours=hours, step=step_seconds)


_SERIES = """
    SELECT DISTINCT ON (step) to_timestamp(step * :step) AS at, models FROM (
        SELECT at, models, floor(extract(epoch FROM at) / :step) AS step FROM headshotpro.status_samples
        WHERE at > now() - make_interval(hours => :hours)
    ) AS stepped ORDER BY step, stepped.at DESC
"""

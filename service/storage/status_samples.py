"""`status_samples`: how many models were in each status over time; counting them takes too long for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

INTERVAL_SECONDS = 300
RETENTION_DAYS = 31


def add_if_due(connection: Connection) -> None:
    """Count the models now, unless the newest sample is younger than five minutes; delete those over 31 days old."""
    connection.execute(_ADD, {"interval": INTERVAL_SECONDS})
    connection.execute(_DELETE_OLD, {"days": RETENTION_DAYS})


_ADD = text(
    """
    INSERT INTO headshotpro.status_samples (at, models)
    SELECT now(), models FROM headshotpro.mirror_status
    WHERE NOT EXISTS (
        SELECT FROM headshotpro.status_samples WHERE at > now() - make_interval(secs => :interval)
    )
    ON CONFLICT DO NOTHING
    """
)
_DELETE_OLD = text("DELETE FROM headshotpro.status_samples WHERE at < now() - make_interval(days => :days)")


def count_now(connection: Connection) -> Mapping[str, int]:
    """How many models are in each status now; it reads an index of all models."""
    counted: dict[str, int] = connection.execute(text("SELECT models FROM headshotpro.mirror_status")).scalar_one()
    return counted


def newest(connection: Connection) -> dict[str, Any] | None:
    """The newest sample: `at` and `models`; None before the first one."""
    statement = text("SELECT at, models FROM headshotpro.status_samples ORDER BY at DESC LIMIT 1")
    row = connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def series(connection: Connection, hours: int, step_seconds: int) -> list[dict[str, Any]]:
    """The last sample of each step, the oldest first; `at` is the beginning of the step."""
    values = {"hours": hours, "step": step_seconds}
    return [dict(row) for row in connection.execute(_SERIES, values).mappings()]


_SERIES = text(
    """
    SELECT DISTINCT ON (step) to_timestamp(step * :step) AS at, models FROM (
        SELECT at, models, floor(extract(epoch FROM at) / :step) AS step FROM headshotpro.status_samples
        WHERE at > now() - make_interval(hours => :hours)
    ) AS stepped ORDER BY step, stepped.at DESC
    """
)

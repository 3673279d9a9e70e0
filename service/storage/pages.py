"""Pages of a pull, merged by sets: most models of a page are either new or as they were.

What these statements do to a model is what `service.mirror.apply` would do; whatever else a page tells goes through it.
Rows travel as one JSON text: Postgres reads that in a sixth of the time that psycopg takes to write arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from service.storage.arrays import text_array
from service.storage.changes import COMMIT_ORDER_LOCK

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection

# What a list page tells of a model, with the types of the columns in `models`.
_TYPES = {
    "uid": "text",
    "email": "text",
    "title": "text",
    "status": "text",
    "team_id": "text",
    "team_name": "text",
    "is_development": "boolean",
    "created_at": "timestamptz",
    "finished_at": "timestamptz",
}
TOLD = tuple(_TYPES)

_NAMES = ", ".join(TOLD)
_SHAPE = "id text, " + ", ".join(f"{name} {kind}" for name, kind in _TYPES.items())


def missing(connection: Connection, ids: Collection[str]) -> set[str]:
    """Those models of which nothing is known, not even a clock.

    From here to the end of the transaction models are looked up by their ids, however small the tables are or seem to
    be: in a mirror that was empty a minute ago, the planner would read all of them for each page.
    """
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    return set(connection.execute(_MISSING, {"ids": text_array(ids)}).scalars())


_MISSING = text(
    """
    SELECT unnest(CAST(:ids AS text[]))
    EXCEPT ALL SELECT model_id FROM headshotpro.model_clocks WHERE model_id = ANY(CAST(:ids AS text[]))
    """
)


def add(connection: Connection, newcomers: str, now: datetime) -> set[str]:
    """Insert models that were met for the first time, with their clocks; somebody may have been quicker with some.

    Missing clocks are inserted before the first lock is taken, and in id order, as `models.lock_clocks` does it.

    Args:
        connection: a transaction that holds no clock yet.
        newcomers: a JSON array in id order; each with `id`, and where the page alone tells all that is known of it,
            the fields of `TOLD`, the times `at` and `until` of the answer, and `changed` for its history.
        now: our time of the write.

    Returns:
        The ids of the models that were inserted.
    """
    return set(connection.execute(_ADD, {"newcomers": newcomers, "now": now}).scalars())


_ADD = text(
    f"""
    WITH newcomer AS MATERIALIZED (
        SELECT * FROM json_to_recordset(CAST(:newcomers AS json)) AS n ({_SHAPE}, at timestamptz, until timestamptz)
    ), clock AS (
        INSERT INTO headshotpro.model_clocks (model_id, core_at, profile_at, until)
        SELECT id, at, at, until FROM newcomer ORDER BY id
        ON CONFLICT DO NOTHING
        RETURNING model_id
    )
    INSERT INTO headshotpro.models (id, {_NAMES}, observed_at, updated_at)
    SELECT id, {_NAMES}, at, :now FROM newcomer JOIN clock ON model_id = id WHERE at IS NOT NULL ORDER BY id
    RETURNING id
    """  # noqa: S608 - names of our own columns
)


def lock(connection: Connection, ids: Collection[str], began_at: datetime) -> int:
    """Lock the clocks of models until the transaction ends, in id order.

    Returns:
        How many of them no API answer had shown since an upstream time.
    """
    return int(connection.execute(_LOCK, {"ids": text_array(ids), "began_at": began_at}).scalar_one())


_LOCK = text(
    """
    SELECT count(*) FILTER (WHERE profile_at IS NULL OR profile_at < :began_at) FROM (
        SELECT profile_at FROM headshotpro.model_clocks WHERE model_id = ANY(CAST(:ids AS text[]))
        ORDER BY model_id FOR UPDATE
    ) AS locked
    """
)


def confirm(connection: Connection, ids: Collection[str], rows: str, at: datetime, until: datetime | None) -> set[str]:
    """Move the clocks of those models whose rows already say what a page says.

    Left alone are models with fields that are known as of times of their own, or about whose life and death there is
    anything to decide.

    Args:
        connection: the transaction that holds the clocks' locks.
        ids: the models of the page.
        rows: a JSON array of them with `id` and the fields of `TOLD`.
        at: upstream time from which the page holds.
        until: upstream time until which the vendor may have looked, where that is later.

    Returns:
        The ids of the others.
    """
    values = {"ids": text_array(ids), "rows": rows, "at": at, "until": until, "told": list(TOLD)}
    return set(connection.execute(_CONFIRM, values).scalars())


_CONFIRM = text(
    f"""
    WITH mirrored AS MATERIALIZED (
        SELECT id, {_NAMES} FROM headshotpro.models WHERE id = ANY(CAST(:ids AS text[]))
    ), same AS MATERIALIZED (
        SELECT id, status FROM (
            SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS page ({_SHAPE})
            INTERSECT SELECT * FROM mirrored
        ) AS both_tell
    ), confirmed AS (
        UPDATE headshotpro.model_clocks AS c
        SET core_at = greatest(c.core_at, :at), profile_at = greatest(c.profile_at, :at),
            gone_at = CASE WHEN same.status = 'deleted' THEN greatest(c.gone_at, :at) ELSE c.gone_at END,
            until = greatest(c.until, :until)
        FROM same
        WHERE c.model_id = same.id AND c.core_at IS NOT NULL AND c.profile_at IS NOT NULL
            AND (c.exceptions IS NULL OR NOT c.exceptions ?| CAST(:told AS text[]))
            AND CASE WHEN same.status = 'deleted' THEN c.gone_at IS NOT NULL AND c.core_status IS NULL
                ELSE c.gone_at IS NULL OR c.gone_at < c.alive_at END
        RETURNING c.model_id
    )
    SELECT unnest(CAST(:ids AS text[])) EXCEPT SELECT model_id FROM confirmed
    """  # noqa: S608 - names of our own columns
)


def begin_histories(connection: Connection, newcomers: str, ids: Collection[str], pull_id: int, now: datetime) -> None:
    """Write the first change of models that a pull inserted, as the last statement of their transaction.

    Args:
        connection: the transaction that added them.
        newcomers: as they were given to `add`.
        ids: those of them that were inserted.
        pull_id: the pull that met them.
        now: our time of the write.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": COMMIT_ORDER_LOCK})
    values = {"newcomers": newcomers, "ids": text_array(ids), "pull_id": pull_id, "now": now}
    connection.execute(_BEGIN_HISTORIES, values)


_BEGIN_HISTORIES = text(
    """
    WITH added AS (
        INSERT INTO headshotpro.model_changes
            (model_id, to_status, changed, source, pull_id, observed_at, recorded_at)
        SELECT id, status, changed, 'pull', :pull_id, at, :now
        FROM json_to_recordset(CAST(:newcomers AS json))
            AS n (id text, status text, changed jsonb, at timestamptz)
        WHERE id = ANY(CAST(:ids AS text[])) ORDER BY id
        RETURNING id
    )
    SELECT pg_notify('headshotpro_changes', CAST(max(id) AS text)) FROM added
    """
)

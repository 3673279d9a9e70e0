"""Outcomes of models (created, active, failed, deleted), folded into counts by day and team.

A batch writes nothing there: `daily_outcomes` reads the counts of folded models, and computes the outcomes of those
that changed since. A worker folds these now and then (`docs/decisions/0036-outcomes-are-folded-later.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection


def fold(connection: Connection, count: int) -> int:
    """Fold the models of the next changes, and as many others whose outcomes are stale.

    For a transaction of its own; at most `count` of each.

    Returns:
        The number of changes and stale rows that are done; 0 if nothing is left, or if another process folds.
    """
    # A statement of its own, so that the next one sees what an earlier fold wrote.
    folded_to = queries.value(connection, _LOCK)
    if folded_to is None:
        return 0
    return int(queries.value(connection, _FOLD, folded_to=folded_to, count=count))


_LOCK = "SELECT folded_to FROM headshotpro.outcome_progress FOR UPDATE SKIP LOCKED"

# The outcomes of a model as the view has them, and the counts of one model.
_OUTCOMES = """
    SELECT m.id AS model_id, m.team_id,
        (coalesce(m.created_at, (
            SELECT c.observed_at FROM headshotpro.model_changes AS c WHERE c.model_id = m.id ORDER BY c.id LIMIT 1
        )) AT TIME ZONE 'UTC')::date AS created_on,
        CASE WHEN m.finished_at IS NULL THEN ARRAY(
            SELECT DISTINCT (c.observed_at AT TIME ZONE 'UTC')::date FROM headshotpro.model_changes AS c
            WHERE c.model_id = m.id AND c.to_status = 'active'
        ) ELSE ARRAY[(m.finished_at AT TIME ZONE 'UTC')::date] END AS active_on,
        ARRAY(
            SELECT DISTINCT (c.observed_at AT TIME ZONE 'UTC')::date FROM headshotpro.model_changes AS c
            WHERE c.model_id = m.id AND c.to_status = 'failed'
        ) AS failed_on,
        (m.deleted_at AT TIME ZONE 'UTC')::date AS deleted_on
    FROM headshotpro.models AS m
"""
_COUNTS = """
    SELECT created_on AS day, 1 AS created, 0 AS active, 0 AS failed, 0 AS deleted WHERE created_on IS NOT NULL
    UNION ALL SELECT unnest(active_on), 0, 1, 0, 0
    UNION ALL SELECT unnest(failed_on), 0, 0, 1, 0
    UNION ALL SELECT deleted_on, 0, 0, 0, 1 WHERE deleted_on IS NOT NULL
"""
_FOLD = f"""
    WITH changed AS MATERIALIZED (
        SELECT id, model_id FROM headshotpro.model_changes WHERE id > :folded_to ORDER BY id LIMIT :count
    ), stale AS (
        DELETE FROM headshotpro.stale_outcomes WHERE id = ANY(ARRAY(
            SELECT id FROM headshotpro.stale_outcomes ORDER BY id LIMIT :count
        ))
        RETURNING model_id
    ), unfolded AS MATERIALIZED (
        SELECT model_id FROM changed UNION SELECT model_id FROM stale
    ), present AS MATERIALIZED (
        SELECT one.* FROM unfolded CROSS JOIN LATERAL ({_OUTCOMES} WHERE m.id = unfolded.model_id LIMIT 1) AS one
    ), moved AS MATERIALIZED (
        SELECT day, team_id, sum(sign * created) AS created, sum(sign * active) AS active, sum(sign * failed) AS failed,
            sum(sign * deleted) AS deleted
        FROM (
            SELECT 1 AS sign, * FROM present
            UNION ALL SELECT -1, folded.* FROM headshotpro.model_outcomes AS folded
            WHERE model_id = ANY(ARRAY(SELECT model_id FROM unfolded))
        ) AS outcomes CROSS JOIN LATERAL ({_COUNTS}) AS counts
        GROUP BY day, team_id
    ), kept AS (
        INSERT INTO headshotpro.model_outcomes SELECT * FROM present
        ON CONFLICT (model_id) DO UPDATE SET team_id = excluded.team_id, created_on = excluded.created_on,
            active_on = excluded.active_on, failed_on = excluded.failed_on, deleted_on = excluded.deleted_on
    ), updated AS (
        UPDATE headshotpro.outcome_counts AS counts SET created = counts.created + moved.created,
            active = counts.active + moved.active, failed = counts.failed + moved.failed,
            deleted = counts.deleted + moved.deleted
        FROM moved WHERE counts.day = moved.day AND counts.team_id IS NOT DISTINCT FROM moved.team_id
    ), added AS (
        INSERT INTO headshotpro.outcome_counts SELECT * FROM moved WHERE NOT EXISTS (
            SELECT FROM headshotpro.outcome_counts AS counts
            WHERE counts.day = moved.day AND counts.team_id IS NOT DISTINCT FROM moved.team_id
        )
    ), progress AS (
        UPDATE headshotpro.outcome_progress SET folded_to = coalesce((SELECT max(id) FROM changed), folded_to)
    )
    SELECT (SELECT count(*) FROM changed) + (SELECT count(*) FROM stale)
"""  # noqa: S608 - parts of our own statements

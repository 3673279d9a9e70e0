"""the views for dashboards, and the indexes that keep them quick.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.storage.migrations import expand

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Each view with its comment and those of its columns; read back by nothing, so they may only be replaced by a later
# revision.
VIEWS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mirror_status": (
        """
        SELECT
            (
                SELECT coalesce(jsonb_object_agg(named.status, named.models), '{}') FROM (
                    SELECT coalesce(counted.status, 'unknown') AS status, sum(counted.models)::bigint AS models
                    -- Grouped by the bare column first: in the order of its index, without reading a row.
                    FROM (SELECT m.status, count(*) AS models FROM headshotpro.models AS m GROUP BY 1) AS counted
                    GROUP BY 1
                ) AS named
            ) AS models,
            (SELECT max(received_at) FROM headshotpro.webhook_events) AS newest_event_at,
            pull.last_complete_pull_at,
            extract(epoch FROM now() - pull.last_complete_pull_at)::float8 AS pull_age_seconds,
            (SELECT count(*) FROM headshotpro.event_spool) AS spooled_events,
            (SELECT count(*) FROM headshotpro.alerts WHERE resolved_at IS NULL) AS open_alerts,
            (SELECT min(id) FROM headshotpro.model_changes) AS oldest_change_id
        FROM (
            SELECT max(finished_at) AS last_complete_pull_at FROM headshotpro.pulls
            WHERE kind = 'full' AND status = 'complete'
        ) AS pull
        """,
        "How fresh and complete the mirror is: one row",
        {
            "models": "How many models are in each status; one whose status nobody named counts as unknown",
            "newest_event_at": "When the newest of the events that are kept was taken at the endpoint",
            "last_complete_pull_at": "When the last complete full pull ended; null before the first one",
            "pull_age_seconds": "How long ago that was",
            "spooled_events": "Deliveries that wait in Postgres because Redis could not take them",
            "open_alerts": "Alerts that are not resolved",
            "oldest_change_id": "The oldest row of model_changes that is still kept: a reader below it fell behind",
        },
    ),
    "live_models": (
        "SELECT * FROM headshotpro.models WHERE status IS DISTINCT FROM 'deleted'",
        "The models that are not deleted, with all columns of models",
        {},
    ),
    "failed_models": (
        """
        SELECT m.id, m.title, m.team_name,
            coalesce(failures.failed_since, m.observed_at) AS failed_since,
            greatest(failures.times_failed, 1) AS times_failed,
            failures.last_good_status
        FROM headshotpro.models AS m
        CROSS JOIN LATERAL (
            SELECT count(*) AS times_failed, max(c.observed_at) AS failed_since,
                (array_agg(c.from_status ORDER BY c.id DESC))[1] AS last_good_status
            FROM headshotpro.model_changes AS c WHERE c.model_id = m.id AND c.to_status = 'failed'
        ) AS failures
        WHERE m.status = 'failed'
        """,
        "The models that are failed now; the vendor restarts them by itself",
        {
            "id": "The model",
            "title": "The model's title, mostly the person's name",
            "team_name": "The team's name",
            "failed_since": "Upstream time of its newest failure; when it was first seen where it was failed then",
            "times_failed": "How often it has failed, as far back as model_changes is kept",
            "last_good_status": "The status before its newest failure; null where it was failed when first seen",
        },
    ),
    "status_durations": (
        """
        SELECT c.model_id, c.to_status AS status, c.observed_at AS entered_at, next.left_at,
            extract(epoch FROM next.left_at - c.observed_at)::float8 AS seconds
        FROM headshotpro.model_changes AS c
        LEFT JOIN LATERAL (
            SELECT greatest(n.observed_at, c.observed_at) AS left_at FROM headshotpro.model_changes AS n
            WHERE n.model_id = c.model_id AND n.id > c.id AND n.to_status IS NOT NULL ORDER BY n.id LIMIT 1
        ) AS next ON true
        WHERE c.to_status IS NOT NULL
        """,
        "How long each model was in each status. Ask with model_id, or with a range of entered_at",
        {
            "model_id": "The model",
            "status": "The status it was in",
            "entered_at": "Upstream time from which it was in it; of a model's first row: when it was first seen",
            "left_at": "Upstream time at which it left it; null while it is in it",
            "seconds": "How long that was; null while it is in it",
        },
    ),
    "daily_outcomes": (
        """
        SELECT day, team_id,
            count(*) FILTER (WHERE outcome = 'created') AS created,
            count(*) FILTER (WHERE outcome = 'active') AS active,
            count(*) FILTER (WHERE outcome = 'failed') AS failed,
            count(*) FILTER (WHERE outcome = 'deleted') AS deleted
        FROM (
            SELECT (created_at AT TIME ZONE 'UTC')::date AS day, team_id, 'created' AS outcome
            FROM headshotpro.models WHERE created_at IS NOT NULL
            UNION ALL
            SELECT (first.observed_at AT TIME ZONE 'UTC')::date, m.team_id, 'created'
            FROM headshotpro.models AS m CROSS JOIN LATERAL (
                SELECT c.observed_at FROM headshotpro.model_changes AS c
                WHERE c.model_id = m.id ORDER BY c.id LIMIT 1
            ) AS first
            WHERE m.created_at IS NULL
            UNION ALL
            SELECT (finished_at AT TIME ZONE 'UTC')::date, team_id, 'active'
            FROM headshotpro.models WHERE finished_at IS NOT NULL
            UNION ALL
            SELECT became.day, m.team_id, 'active'
            FROM (
                SELECT DISTINCT (observed_at AT TIME ZONE 'UTC')::date AS day, model_id
                FROM headshotpro.model_changes WHERE to_status = 'active'
            ) AS became
            JOIN headshotpro.models AS m ON m.id = became.model_id AND m.finished_at IS NULL
            UNION ALL
            -- No join: for some thousand failures the planner would else read every model.
            SELECT became.day, (SELECT m.team_id FROM headshotpro.models AS m WHERE m.id = became.model_id), 'failed'
            FROM (
                SELECT DISTINCT (observed_at AT TIME ZONE 'UTC')::date AS day, model_id
                FROM headshotpro.model_changes WHERE to_status = 'failed'
            ) AS became
            UNION ALL
            SELECT (deleted_at AT TIME ZONE 'UTC')::date, team_id, 'deleted'
            FROM headshotpro.models WHERE deleted_at IS NOT NULL
        ) AS outcomes
        GROUP BY day, team_id
        """,
        "What became of models, by day and the team they are in now. Ask with a range of days",
        {
            "day": "The day, in UTC",
            "team_id": "The vendor's id of the team; null for models whose team is not known",
            "created": "Models that the vendor created on that day; first seen on it where the vendor named no time",
            "active": "Models whose headshots became ready on that day, whatever became of them since",
            "failed": "Models that failed on that day, each once, as far back as model_changes is kept",
            "deleted": "Models that were deleted on that day",
        },
    ),
}


def upgrade() -> None:
    for name in ("created_at", "finished_at", "deleted_at"):
        expand.create_index(
            f"models_{name.removesuffix('_at')}_day_idx",
            "models",
            [sa.text(f"(({name} AT TIME ZONE 'UTC'::text)::date)"), "team_id"],
            postgresql_include=[name],
        )
    expand.create_index(
        "models_unfinished_idx",
        "models",
        ["id"],
        postgresql_include=["team_id"],
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    expand.create_index(
        "model_changes_outcome_day_idx",
        "model_changes",
        ["to_status", sa.text("((observed_at AT TIME ZONE 'UTC'::text)::date)"), "model_id"],
        postgresql_include=["observed_at"],
        postgresql_where=sa.text("to_status IN ('active', 'failed')"),
    )
    expand.create_index(
        "model_changes_failures_idx",
        "model_changes",
        ["model_id", "id"],
        postgresql_include=["observed_at", "from_status"],
        postgresql_where=sa.text("to_status = 'failed'"),
    )
    expand.create_index(
        "model_changes_entered_idx",
        "model_changes",
        ["observed_at"],
        postgresql_where=sa.text("to_status IS NOT NULL"),
    )
    expand.create_index(
        "pulls_complete_idx",
        "pulls",
        ["finished_at"],
        postgresql_where=sa.text("kind = 'full' AND status = 'complete'"),
    )
    for view, (query, comment, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW headshotpro.{view} AS {query}")
        op.execute(f"COMMENT ON VIEW headshotpro.{view} IS {_quoted(comment)}")
        for column, words in columns.items():
            op.execute(f"COMMENT ON COLUMN headshotpro.{view}.{column} IS {_quoted(words)}")
    op.execute(COMMENT_LIVE_MODELS)


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"


# A view does not take over the comments of its table's columns.
COMMENT_LIVE_MODELS = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT attname, col_description(attrelid, attnum) AS words FROM pg_attribute
        WHERE attrelid = 'headshotpro.models'::regclass AND attnum > 0 AND NOT attisdropped
    LOOP
        EXECUTE format('COMMENT ON COLUMN headshotpro.live_models.%I IS %L', found.attname, found.words);
    END LOOP;
END
$$
"""

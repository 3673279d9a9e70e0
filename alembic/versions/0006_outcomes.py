"""outcomes of models, folded into counts by day and team, so that daily_outcomes reads few rows.

Revision ID: 0006_outcomes
Revises: 0005_accuracy
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006_outcomes"
down_revision = "0005_accuracy"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"

# Only the old daily_outcomes read them.
UNUSED_INDEXES = (
    "models_created_day_idx",
    "models_deleted_day_idx",
    "models_unfinished_idx",
    "model_changes_outcome_day_idx",
)

# History that is deleted takes outcomes along, whichever release deletes it.
NOTE_DELETED = """
CREATE FUNCTION headshotpro.note_deleted_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO headshotpro.stale_outcomes (model_id) SELECT DISTINCT model_id FROM deleted;
    RETURN NULL;
END
$$
"""
NOTE_DELETED_TRIGGER = """
CREATE TRIGGER note_deleted_changes AFTER DELETE ON headshotpro.model_changes
REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION headshotpro.note_deleted_changes()
"""
# The planner would expect a third of all changes, and read whole tables.
UNFOLDED = """
CREATE FUNCTION headshotpro.unfolded_models() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER ROWS 100 SET search_path = pg_catalog SET jit = off AS $$
    SELECT changed.model_id FROM (
        SELECT c.model_id FROM headshotpro.model_changes AS c
        WHERE c.id > (SELECT p.folded_to FROM headshotpro.outcome_progress AS p) ORDER BY c.id
    ) AS changed
    UNION SELECT s.model_id FROM headshotpro.stale_outcomes AS s
$$
"""
DAILY_OUTCOMES = """
CREATE OR REPLACE VIEW headshotpro.daily_outcomes AS
WITH unfolded AS MATERIALIZED (SELECT id FROM headshotpro.unfolded_models() AS id), outcomes AS (
    SELECT 1 AS sign, live.* FROM unfolded CROSS JOIN LATERAL (
        SELECT m.team_id,
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
        FROM headshotpro.models AS m WHERE m.id = unfolded.id LIMIT 1
    ) AS live
    UNION ALL
    SELECT -1, folded.* FROM unfolded CROSS JOIN LATERAL (
        SELECT o.team_id, o.created_on, o.active_on, o.failed_on, o.deleted_on
        FROM headshotpro.model_outcomes AS o WHERE o.model_id = unfolded.id LIMIT 1
    ) AS folded
)
SELECT day, team_id, sum(created) AS created, sum(active) AS active, sum(failed) AS failed, sum(deleted) AS deleted
FROM (
    SELECT day, team_id, created, active, failed, deleted FROM headshotpro.outcome_counts
    UNION ALL
    SELECT one.day, outcomes.team_id, sign * one.created, sign * one.active, sign * one.failed, sign * one.deleted
    FROM outcomes CROSS JOIN LATERAL (
        SELECT created_on AS day, 1 AS created, 0 AS active, 0 AS failed, 0 AS deleted WHERE created_on IS NOT NULL
        UNION ALL SELECT unnest(active_on), 0, 1, 0, 0
        UNION ALL SELECT unnest(failed_on), 0, 0, 1, 0
        UNION ALL SELECT deleted_on, 0, 0, 0, 1 WHERE deleted_on IS NOT NULL
    ) AS one
) AS counted
GROUP BY day, team_id
HAVING sum(created) > 0 OR sum(active) > 0 OR sum(failed) > 0 OR sum(deleted) > 0
"""


def upgrade() -> None:
    """Make the tables, let the view read them, and leave the counting of the models that exist to the workers."""
    # First, because it commits: the rest may then be run again.
    with op.get_context().autocommit_block():
        for name in UNUSED_INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS headshotpro.{name}")
    _make_tables()
    # The models that exist are folded later. What changes from here on has a greater id.
    op.execute("INSERT INTO headshotpro.outcome_progress SELECT 1, coalesce(max(id), 0) FROM headshotpro.model_changes")
    op.execute(
        "INSERT INTO headshotpro.stale_outcomes (model_id) SELECT id FROM headshotpro.models ORDER BY created_at"
    )
    op.execute(NOTE_DELETED)
    op.execute(NOTE_DELETED_TRIGGER)
    op.execute(UNFOLDED)
    op.execute(DAILY_OUTCOMES)


def _make_tables() -> None:
    op.create_table(
        "outcome_counts",
        sa.Column("day", sa.Date(), nullable=False, comment="The day, in UTC"),
        sa.Column("team_id", sa.Text(), comment="The vendor's id of the team; null where it is not known"),
        *(
            sa.Column(name, sa.Integer(), nullable=False, comment=comment)
            for name, comment in (
                ("created", "How many models were created"),
                ("active", "How many became ready"),
                ("failed", "How many failed"),
                ("deleted", "How many were deleted"),
            )
        ),
        schema=SCHEMA,
        comment="Outcomes of folded models by day and team; read the view daily_outcomes, which adds the other models",
    )
    op.create_index("outcome_counts_day_team_id_idx", "outcome_counts", ["day", "team_id"], schema=SCHEMA)
    op.create_table(
        "model_outcomes",
        sa.Column("model_id", sa.Text(), nullable=False, comment="The model"),
        sa.Column("team_id", sa.Text(), comment="The team it is counted in"),
        sa.Column("created_on", sa.Date(), comment="The day on which it is counted as created"),
        sa.Column("active_on", postgresql.ARRAY(sa.Date()), nullable=False, comment="The days counted as ready"),
        sa.Column("failed_on", postgresql.ARRAY(sa.Date()), nullable=False, comment="The days counted as failed"),
        sa.Column("deleted_on", sa.Date(), comment="The day on which it is counted as deleted"),
        sa.PrimaryKeyConstraint("model_id", name=op.f("model_outcomes_pkey")),
        schema=SCHEMA,
        comment="What outcome_counts holds of each model",
    )
    op.create_table(
        "stale_outcomes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the row"),
        sa.Column("model_id", sa.Text(), nullable=False, comment="The model"),
        sa.PrimaryKeyConstraint("id", name=op.f("stale_outcomes_pkey")),
        schema=SCHEMA,
        comment="Models that are to be folded although no newer change names them",
    )
    op.create_table(
        "outcome_progress",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="1: there is one row"),
        sa.Column("folded_to", sa.BigInteger(), nullable=False, comment="Changes up to this id are folded"),
        sa.PrimaryKeyConstraint("id", name=op.f("outcome_progress_pkey")),
        schema=SCHEMA,
        comment="How far outcomes are folded; locked by the one that folds",
    )

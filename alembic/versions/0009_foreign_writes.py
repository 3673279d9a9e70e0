"""foreign_writes: rows that other programs wrote, noted without a lock of their clocks; the age of accuracy's figures.

Revision ID: 0009_foreign_writes
Revises: 0008_event_lags
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0009_foreign_writes"
down_revision = "0008_event_lags"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"

# The statement has locked the rows of models already, and batches take clocks first: a lock of a clock here would be
# a deadlock with each batch that writes one of the rows.
MODELS_CHANGED = """
CREATE OR REPLACE FUNCTION headshotpro.models_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO headshotpro.foreign_writes (model_id) VALUES (OLD.id);
    RETURN NULL;
END
$$
"""
# Figures that nothing computes any more say nothing about now.
ACCURACY = """
CREATE OR REPLACE VIEW headshotpro.accuracy AS
SELECT period, fields, compared, wrong, rate, lower_95, upper_95, bound_method, stale_p50, stale_p95, stale_p99,
    stale_max, censored_share, late_webhooks, lost_webhooks, unexplained, last_check_at, slo_target,
    CASE WHEN computed_at > now() - interval '5 minutes' THEN slo_met END AS slo_met, error_budget_left, computed_at
FROM headshotpro.accuracy_figures
"""


def upgrade() -> None:
    """Make the table, note in it what the clocks have noted, and let the trigger write there from now on."""
    op.create_table(
        "foreign_writes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the row"),
        sa.Column("model_id", sa.Text(), nullable=False, comment="The model whose row another program wrote"),
        sa.Column(
            "written_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
            comment="When it did",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("foreign_writes_pkey")),
        schema=SCHEMA,
        comment="Rows of models that another program wrote, until they are compared with the upstream",
    )
    op.create_index("foreign_writes_model_id_idx", "foreign_writes", ["model_id"], schema=SCHEMA)
    op.execute(MODELS_CHANGED)
    op.execute(
        "INSERT INTO headshotpro.foreign_writes (model_id) "
        "SELECT model_id FROM headshotpro.model_clocks WHERE foreign_write_at IS NOT NULL"
    )
    op.alter_column("model_clocks", "foreign_write_at", comment="No longer used", schema=SCHEMA)
    _accuracy()


def _accuracy() -> None:
    # The view first: so do readers of both.
    op.execute(ACCURACY)
    expand.lock("accuracy_checks")
    op.add_column(
        "accuracy_checks",
        sa.Column(
            "looked_at",
            postgresql.TIMESTAMP(timezone=True),
            comment="When the events about a difference were last read; null before the first time",
        ),
        schema=SCHEMA,
    )
    op.alter_column(
        "accuracy_checks",
        "method",
        comment="census (a pull compared it), sample (a random single GET did) or sweep (one that read details)",
        schema=SCHEMA,
    )
    op.alter_column("accuracy_checks", "pull_id", comment="The pull that compared it; null without one", schema=SCHEMA)
    op.execute("COMMENT ON COLUMN headshotpro.accuracy.computed_at IS 'When these figures were computed'")
    op.execute(
        "COMMENT ON COLUMN headshotpro.accuracy.slo_met IS "
        "'Whether the rate is within the target; null while undecided, or older than five minutes'"
    )

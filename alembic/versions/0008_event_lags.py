"""event_lags: how long events of the last hour took, in the view mirror_status, too.

Revision ID: 0008_event_lags
Revises: 0007_digests_of_lists
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008_event_lags"
down_revision = "0007_digests_of_lists"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"

COLUMNS = {
    "event_lag_p50": "Median seconds from the receipt of an event to its row, of the last hour; null without any event",
    "event_lag_p95": "95th percentile of it",
    "event_lag_p99": "99th percentile of it",
    "delivery_lag_p50": "Median seconds from an event at the vendor to its receipt, of the last hour; null without any event",
    "delivery_lag_p95": "95th percentile of it",
    "delivery_lag_p99": "99th percentile of it",
}
# The columns of before come first: older code reads them meanwhile.
MIRROR_STATUS = f"""
CREATE OR REPLACE VIEW headshotpro.mirror_status AS
SELECT
    (
        SELECT coalesce(jsonb_object_agg(named.status, named.models), '{{}}') FROM (
            SELECT coalesce(counted.status, 'unknown') AS status, sum(counted.models)::bigint AS models
            FROM (SELECT m.status, count(*) AS models FROM headshotpro.models AS m GROUP BY 1) AS counted
            GROUP BY 1
        ) AS named
    ) AS models,
    (SELECT max(received_at) FROM headshotpro.webhook_events) AS newest_event_at,
    pull.last_complete_pull_at,
    extract(epoch FROM now() - pull.last_complete_pull_at)::float8 AS pull_age_seconds,
    (SELECT count(*) FROM headshotpro.event_spool) AS spooled_events,
    (SELECT count(*) FROM headshotpro.alerts WHERE resolved_at IS NULL) AS open_alerts,
    (SELECT min(id) FROM headshotpro.model_changes) AS oldest_change_id,
    {", ".join(f"lags.{name}" for name in COLUMNS)}
FROM (
    SELECT max(finished_at) AS last_complete_pull_at FROM headshotpro.pulls
    WHERE kind = 'full' AND status = 'complete'
) AS pull LEFT JOIN headshotpro.event_lags AS lags ON lags.id = 1
"""  # noqa: S608 - our own names


def upgrade() -> None:
    op.create_table(
        "event_lags",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="1: there is one row"),
        sa.Column("events", sa.Integer(), nullable=False, comment="How many events that was, 50,000 at most"),
        *(sa.Column(name, sa.Float(), comment=comment) for name, comment in COLUMNS.items()),
        sa.Column("computed_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When it was computed"),
        sa.PrimaryKeyConstraint("id", name=op.f("event_lags_pkey")),
        schema=SCHEMA,
        comment="How long the newest events of the last hour took; the acting clock computes it each minute",
    )
    op.execute(MIRROR_STATUS)
    for name, comment in COLUMNS.items():
        op.execute(f"COMMENT ON COLUMN headshotpro.mirror_status.{name} IS '{comment}'")

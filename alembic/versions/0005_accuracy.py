"""accuracy: what pulls and samples compared, and the figures of the view.

Revision ID: 0005_accuracy
Revises: 0004_console
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0005_accuracy"
down_revision = "0004_console"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    # In the order in which batches take them.
    expand.lock("model_clocks", "models", "pulls")
    for name, comment in PULL_COUNTS.items():
        op.add_column(
            "pulls",
            sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"), comment=comment),
            schema=SCHEMA,
        )
    op.add_column(
        "model_clocks",
        _time("foreign_write_at", "When another program wrote the row; null once it was compared with the upstream"),
        schema=SCHEMA,
    )
    op.alter_column(
        "pulls", "missed_webhooks", comment="Changes it found whose webhook was late or lost", schema=SCHEMA
    )
    _accuracy_checks()
    _accuracy_figures()
    columns = ", ".join(FIGURES)
    op.execute(f"CREATE VIEW headshotpro.accuracy AS SELECT {columns} FROM headshotpro.accuracy_figures")  # noqa: S608
    op.execute(
        "COMMENT ON VIEW headshotpro.accuracy IS "
        "'How wrong the mirror was, with 95 % bounds: one row for each period, for fields of the list and details'"
    )
    for name, comment in FIGURES.items():
        op.execute(f"COMMENT ON COLUMN headshotpro.accuracy.{name} IS {_quoted(comment)}")
    op.execute(MODELS_CHANGED)
    op.execute(TRIGGER)


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"


def _text(name: str, comment: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, comment=comment, **options)


def _time(name: str, comment: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), comment=comment, **options)


PULL_COUNTS = {
    "late_webhooks": "Changes it found whose webhook was not there after five minutes, but after 90",
    "lost_webhooks": "Changes it found whose webhook was not there after 90 minutes",
    "rows_compared": "Rows of the mirror that it compared with the upstream; 0 before the first complete full pull",
    "rows_differed": "Those of them that differed",
}


def _accuracy_checks() -> None:
    op.create_table(
        "accuracy_checks",
        sa.Column(
            "id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Order in which they were written"
        ),
        _time("checked_at", "When the row was compared with the upstream", nullable=False),
        _text("method", "census (a pull compared it) or sample (a single GET did)", nullable=False),
        sa.Column("pull_id", sa.BigInteger, comment="The pull that compared it; null for a sample"),
        _text("model_id", "The model", nullable=False),
        _text("stratum", "moving, active_new, active_old or tombstone; null where it was unknown"),
        sa.Column("agreed", sa.Boolean, nullable=False, comment="Whether the row was right"),
        sa.Column(
            "fields", postgresql.ARRAY(sa.Text), nullable=False, comment="Names of the columns that differed, no values"
        ),
        _time("last_agreed_at", "Upstream time as of which the row was last known to be right"),
        _time("core_at", "Upstream time of the newest observation that its core came from"),
        _text(
            "class",
            "in_flight, late, lost, unannounced, foreign_write or unexplained; null while undecided, and where it agreed",
        ),
        _text("event_id", "The event that announced the difference, or that was applied wrongly"),
        _time("repaired_at", "When the row was right again; null while it is not"),
        sa.Column("stale_seconds", sa.Float, comment="How long the row was wrong when it was repaired"),
        sa.Column("censored", sa.Boolean, comment="True where stale_seconds is only the upper end of an interval"),
        _time("decided_at", "When the class became final; null while an event may still change it"),
        sa.Column(
            "with_details",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="Whether photo count and favourite were compared, too",
        ),
        schema=SCHEMA,
        comment="One row for each difference that a pull found and for each sample; retained for 28 days and a little",
    )
    op.create_index("accuracy_checks_checked_at_idx", "accuracy_checks", ["checked_at"], schema=SCHEMA)
    op.create_index("accuracy_checks_pull_id_idx", "accuracy_checks", ["pull_id"], schema=SCHEMA)
    op.create_index(
        "accuracy_checks_undecided_idx",
        "accuracy_checks",
        ["id"],
        schema=SCHEMA,
        postgresql_where=sa.text("NOT agreed AND decided_at IS NULL"),
    )


FIGURES = {
    "period": "1h, 24h or 28d",
    "fields": "list or detail",
    "compared": "Rows that were compared",
    "wrong": "Rows that were wrong for ten seconds or longer",
    "rate": "Share of wrong rows; null where none was compared",
    "lower_95": "Lower 95 % bound of the rate",
    "upper_95": "Upper 95 % bound of the rate",
    "bound_method": "pulls, or clopper_pearson",
    "stale_p50": "Median of how long wrong rows were wrong, in seconds",
    "stale_p95": "95th percentile of it",
    "stale_p99": "99th percentile of it",
    "stale_max": "Longest of it",
    "censored_share": "Share of those times of which only the upper end of an interval is known",
    "late_webhooks": "Webhooks that were late",
    "lost_webhooks": "Webhooks that were lost",
    "unexplained": "Differences that are our own fault",
    "last_check_at": "When a row was last compared",
    "slo_target": "ACCURACY_SLO: highest acceptable rate",
    "slo_met": "Whether the rate is within the target; null while undecided",
    "error_budget_left": "Share of the acceptable errors that is left; negative once overspent",
}
_TYPES: dict[str, Any] = {
    "compared": sa.BigInteger,
    "wrong": sa.BigInteger,
    "bound_method": sa.Text,
    "late_webhooks": sa.BigInteger,
    "lost_webhooks": sa.BigInteger,
    "unexplained": sa.BigInteger,
    "last_check_at": postgresql.TIMESTAMP(timezone=True),
    "slo_met": sa.Boolean,
}


def _accuracy_figures() -> None:
    required = {"compared", "wrong", "late_webhooks", "lost_webhooks", "unexplained", "slo_target"}
    op.create_table(
        "accuracy_figures",
        _text("period", FIGURES["period"], primary_key=True),
        _text("fields", FIGURES["fields"], primary_key=True),
        *(
            sa.Column(name, _TYPES.get(name, sa.Float), nullable=name not in required, comment=comment)
            for name, comment in list(FIGURES.items())[2:]
        ),
        _time("computed_at", "When the acting clock computed it", nullable=False),
        schema=SCHEMA,
        comment="The figures of the view accuracy; the acting clock computes them each minute",
    )


# A pull compares digests. A write by another program has to remove the digest, or no pull would notice it.
MODELS_CHANGED = """
CREATE FUNCTION headshotpro.models_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    UPDATE headshotpro.model_clocks SET shown_digest = NULL, foreign_write_at = clock_timestamp() WHERE model_id = OLD.id;
    RETURN NULL;
END
$$
"""
TRIGGER = """
CREATE TRIGGER models_changed AFTER UPDATE OR DELETE ON headshotpro.models FOR EACH ROW
    WHEN (current_setting('headshotpro.writer', true) IS DISTINCT FROM 'headshot-mirror')
    EXECUTE FUNCTION headshotpro.models_changed()
"""

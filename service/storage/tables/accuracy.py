"""Tables in which the mirror keeps what it knows of its own error."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Identity, Index, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from service.storage.tables.columns import filled_column, metadata, text_column, time_column

accuracy_checks = Table(
    "accuracy_checks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order in which they were written"),
    time_column("checked_at", "When the row was compared with the upstream", nullable=False),
    text_column(
        "method",
        "census (a pull compared it), sample (a random single GET did) or sweep (one that read details)",
        nullable=False,
    ),
    Column("pull_id", BigInteger, comment="The pull that compared it; null without one"),
    text_column("model_id", "The model", nullable=False),
    text_column("stratum", "moving, active_new, active_old or tombstone; null where it was unknown"),
    Column("agreed", Boolean, nullable=False, comment="Whether the row was right"),
    Column("fields", ARRAY(Text), nullable=False, comment="Names of the columns that differed, no values"),
    time_column("last_agreed_at", "Upstream time as of which the row was last known to be right"),
    time_column("core_at", "Upstream time of the newest observation that its core came from"),
    text_column(
        "class",
        "in_flight, late, lost, unannounced, foreign_write or unexplained; null while undecided, and where it agreed",
    ),
    text_column("event_id", "The event that announced the difference, or that was applied wrongly"),
    time_column("repaired_at", "When the row was right again; null while it is not"),
    Column("stale_seconds", Float, comment="How long the row was wrong when it was repaired"),
    Column("censored", Boolean, comment="True where stale_seconds is only the upper end of an interval"),
    time_column("decided_at", "When the class became final; null while an event may still change it"),
    filled_column("with_details", Boolean, "false", "Whether photo count and favourite were compared, too"),
    time_column("looked_at", "When the events about a difference were last read; null before the first time"),
    comment="One row for each difference that a pull found and for each sample; retained for 28 days and a little",
)
Index(None, accuracy_checks.c.checked_at)
Index(None, accuracy_checks.c.pull_id)
Index(
    "accuracy_checks_undecided_idx",
    accuracy_checks.c.id,
    postgresql_where=text("NOT agreed AND decided_at IS NULL"),
)
Index(
    "accuracy_checks_unrepaired_idx",
    accuracy_checks.c.id,
    postgresql_where=text("NOT agreed AND repaired_at IS NULL"),
)

accuracy_figures = Table(
    "accuracy_figures",
    metadata,
    text_column("period", "1h, 24h or 28d", primary_key=True),
    text_column("fields", "list or detail", primary_key=True),
    Column("compared", BigInteger, nullable=False, comment="Rows that were compared"),
    Column("wrong", BigInteger, nullable=False, comment="Rows that were wrong for ten seconds or longer"),
    Column("rate", Float, comment="Share of wrong rows; null where none was compared"),
    Column("lower_95", Float, comment="Lower 95 % bound of the rate"),
    Column("upper_95", Float, comment="Upper 95 % bound of the rate"),
    text_column("bound_method", "pulls, or clopper_pearson"),
    Column("stale_p50", Float, comment="Median of how long wrong rows were wrong, in seconds"),
    Column("stale_p95", Float, comment="95th percentile of it"),
    Column("stale_p99", Float, comment="99th percentile of it"),
    Column("stale_max", Float, comment="Longest of it"),
    Column("censored_share", Float, comment="Share of those times of which only the upper end of an interval is known"),
    Column("late_webhooks", BigInteger, nullable=False, comment="Webhooks that were late"),
    Column("lost_webhooks", BigInteger, nullable=False, comment="Webhooks that were lost"),
    Column("unexplained", BigInteger, nullable=False, comment="Differences that are our own fault"),
    time_column("last_check_at", "When a row was last compared"),
    Column("slo_target", Float, nullable=False, comment="ACCURACY_SLO: highest acceptable rate"),
    Column("slo_met", Boolean, comment="Whether the rate is within the target; null while undecided"),
    Column("error_budget_left", Float, comment="Share of the acceptable errors that is left; negative once overspent"),
    time_column("computed_at", "When a worker computed it", nullable=False),
    comment="The figures of the view accuracy; a worker computes them each minute",
)

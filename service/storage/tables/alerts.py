"""Alerts, the notifications about them, and the outbox of each receiver."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Identity, Index, SmallInteger, Table, text
from sqlalchemy.dialects.postgresql import JSONB

from service.storage.tables.columns import count_column, metadata, parent_column, text_column, time_column

alerts = Table(
    "alerts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the alert"),
    text_column("kind", "The condition, such as model_failed, pull_stale or worker_missing", nullable=False),
    text_column("model_id", "The model it is about; null where it is about the mirror"),
    time_column("opened_at", "When the condition was found", nullable=False),
    time_column("resolved_at", "When the condition had ended; null while it is open"),
    time_column("acknowledged_at", "When a person acknowledged it: no reminder of it is sent after that"),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'"), comment="What was found when it opened"),
    time_column("last_notified_at", "When a notification of it, or a reminder, was last given to the receivers"),
    comment="Conditions that need a person; at most one open row for each kind and model",
)
Index(
    "alerts_open_idx",
    alerts.c.kind,
    text("coalesce(model_id, '')"),
    unique=True,
    postgresql_where=alerts.c.resolved_at.is_(None),
)
Index(None, alerts.c.opened_at)

alert_evaluator = Table(
    "alert_evaluator",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
    time_column("observing_since", "Since when the mirror observes the upstream; older conditions open no alert"),
    time_column(
        "first_pull_finished_at", "End of the first complete full pull: what it did not show happened after it"
    ),
    time_column("first_summary_at", "When the one summary of older conditions was written"),
    time_column("key_refused_at", "When the upstream last refused the API key"),
    Column("key_refused_status", SmallInteger, comment="HTTP status of that refusal"),
    time_column("key_accepted_at", "When the upstream accepted the API key again"),
    time_column("clock_skewed_at", "When a response of the upstream last had a Date that was not believed"),
    Column("clock_skew_seconds", Float, comment="Seconds by which it was ahead of our clock then; negative: behind"),
    time_column("clock_agreed_at", "When the upstream's clock agreed with ours again"),
    comment="State of the alert evaluator: one row",
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order in which they were written"),
    text_column(
        "reason",
        "opened, resolved, reminder or first_summary (conditions older than the mirror's first observation)",
        nullable=False,
    ),
    parent_column("alert_id", alerts.c.id, "The alert; null for the first summary"),
    time_column("created_at", "When it was written, in the transaction of the change it reports", nullable=False),
    time_column("released_at", "When it was given to the receivers, with all others that waited; null until then"),
    Column("detail", JSONB, comment="Of the first summary: counts and the first ids"),
    comment="Messages about alerts; ids alone, never names",
)
Index("notifications_waiting_idx", notifications.c.created_at, postgresql_where=notifications.c.released_at.is_(None))
Index(None, notifications.c.alert_id)

receivers = Table(
    "receivers",
    metadata,
    text_column("digest", "Digest of its URL in ALERT_URLS; the URL holds secrets and is not stored", primary_key=True),
    Column("is_configured", Boolean, nullable=False, comment="Whether ALERT_URLS names it now"),
    time_column("retry_at", "When it may be tried next; later while a process sends to it", nullable=False),
    count_column("failures", "Attempts that failed since the last one that succeeded"),
    text_column("error", "Why the last attempt failed; null where it succeeded"),
    comment="Where notifications are sent: one row for each URL of ALERT_URLS",
)

notification_deliveries = Table(
    "notification_deliveries",
    metadata,
    parent_column("receiver", receivers.c.digest, "The receiver's digest", primary_key=True),
    parent_column("notification_id", notifications.c.id, "The notification", primary_key=True),
    time_column("sent_at", "When the receiver took it; null while it is still to be sent"),
    comment="The outbox: one row for each notification and receiver",
)
Index(
    "notification_deliveries_unsent_idx",
    notification_deliveries.c.receiver,
    postgresql_where=notification_deliveries.c.sent_at.is_(None),
)
Index(None, notification_deliveries.c.notification_id)

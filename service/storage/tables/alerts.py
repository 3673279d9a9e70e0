"""Alerts, the notifications about them, and the outbox of each receiver."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Identity, Index, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from service.storage.tables.columns import count_column, metadata, text_column, time_column

alerts = Table(
    "alerts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the alert"),
    text_column(
        "kind",
        "model_failed, model_stuck, pull_stale, webhooks_missing, events_dead, tombstones_held or api_rejected",
        nullable=False,
    ),
    text_column("model_id", "The model it is about; null where it is about the mirror"),
    time_column("opened_at", "When its cause was seen", nullable=False),
    time_column("resolved_at", "When its cause ended; null while it is open"),
    time_column("acknowledged_at", "When a person took note"),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'"), comment="What was seen"),
    time_column("last_notice_at", "When a notice of it, or a reminder, was last handed out"),
    comment="What people are woken by; at most one open row for each kind and model",
)
Index(
    "alerts_open_idx",
    alerts.c.kind,
    text("coalesce(model_id, '')"),
    unique=True,
    postgresql_where=alerts.c.resolved_at.is_(None),
)
Index(None, alerts.c.opened_at)

alert_watch = Table(
    "alert_watch",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
    time_column("looking_since", "Since when the mirror looks at the vendor; what happened before is the past"),
    time_column("past_until", "End of the first complete full pull: whatever it did not show is news"),
    time_column("past_summed_at", "When the one notice about the past was written"),
    time_column("key_refused_at", "When the vendor last refused the API key"),
    Column("key_refused_status", SmallInteger, comment="With which HTTP status"),
    time_column("key_accepted_at", "When the vendor took the key again"),
    time_column("clock_skewed_at", "When a response of the upstream last had a Date that was not believed"),
    Column("clock_skew_seconds", Float, comment="How far it was ahead of our clock then; negative: behind"),
    time_column("clock_agreed_at", "When the upstream's clock agreed with ours again"),
    comment="What the watch for alerts remembers; one row",
)

notices = Table(
    "notices",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order in which they were made"),
    text_column(
        "what", "opened, resolved, reminder or past (what was failed before the mirror looked)", nullable=False
    ),
    Column("alert_id", BigInteger, ForeignKey(alerts.c.id, ondelete="CASCADE"), comment="The alert; null: the past"),
    time_column("made_at", "When it was written, in the transaction of what it tells", nullable=False),
    time_column("released_at", "When it was handed out to the receivers, together with all others of its time"),
    Column("detail", JSONB, comment="Of the past: counts and the first ids"),
    comment="What people have to be told; ids alone, never names",
)
Index("notices_waiting_idx", notices.c.made_at, postgresql_where=notices.c.released_at.is_(None))
Index(None, notices.c.alert_id)

receivers = Table(
    "receivers",
    metadata,
    text_column(
        "digest", "A digest of its URL in ALERT_URLS, which holds secrets and is never stored", primary_key=True
    ),
    Column("is_set", Boolean, nullable=False, comment="Whether ALERT_URLS names it now"),
    time_column("retry_at", "When it may be tried next; a process that has it in hand sets it ahead", nullable=False),
    count_column("failures", "How often in a row it took nothing"),
    text_column("error", "What came back last, where it took nothing"),
    comment="Who is told of alerts",
)

notice_deliveries = Table(
    "notice_deliveries",
    metadata,
    Column(
        "receiver", Text, ForeignKey(receivers.c.digest, ondelete="CASCADE"), primary_key=True, comment="Who is told"
    ),
    Column("notice_id", BigInteger, ForeignKey(notices.c.id, ondelete="CASCADE"), primary_key=True, comment="Of what"),
    time_column("sent_at", "When the receiver took it; null: it is still to be sent"),
    comment="The outbox: each notice for each receiver",
)
Index(
    "notice_deliveries_unsent_idx", notice_deliveries.c.receiver, postgresql_where=notice_deliveries.c.sent_at.is_(None)
)
Index(None, notice_deliveries.c.notice_id)

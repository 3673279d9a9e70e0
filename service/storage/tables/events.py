"""Webhook deliveries: those that wait in Postgres, and the events that were processed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

from service.storage.tables.columns import metadata, text_column, time_column

webhook_events = Table(
    "webhook_events",
    metadata,
    text_column("id", "The event's id; `sha256:` and a digest where the vendor sent none", primary_key=True),
    text_column("event", "What happened, in the vendor's words, such as model.deleted", nullable=False),
    text_column("model_id", "The model it concerns; null where it concerns none"),
    text_column(
        "status",
        "applied, stale (older than what was known), ignored (no model) or dead (could not be applied)",
        nullable=False,
    ),
    text_column("error", "Why it is dead"),
    Column("payload", JSONB, comment="The body as it was sent, without login links"),
    time_column("created_at", "When it happened, by the vendor; null where it did not say"),
    time_column("received_at", "When the endpoint took it", nullable=False),
    time_column("signed_at", "The signed timestamp of its first delivery: it did not happen later"),
    time_column("processed_at", "When it was applied", nullable=False),
    Column("deliveries", Integer, nullable=False, server_default=text("1"), comment="How often it was delivered"),
    Column(
        "delivery_ids", ARRAY(Text), comment="The endpoint's ids of its first deliveries: one read twice counts once"
    ),
    comment="One row for each webhook event that was processed",
)
Index(None, webhook_events.c.model_id, webhook_events.c.received_at)
Index(None, webhook_events.c.received_at)
Index(
    "webhook_events_dead_idx",
    webhook_events.c.received_at,
    postgresql_where=webhook_events.c.status == "dead",
)

event_spool = Table(
    "event_spool",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order of arrival"),
    Column("body", BYTEA, nullable=False, comment="The delivery's body, without login links"),
    Column("signed_at", BigInteger, nullable=False, comment="Its signed timestamp, Unix seconds"),
    time_column("received_at", "When the endpoint took it", nullable=False),
    text_column("delivery_id", "The endpoint's id of it: Redis may hold it too"),
    text_column(
        "event_id", "The id of its event; null where an older web process took it: it is found in the body then"
    ),
    comment="Deliveries taken while Redis could not take them",
)

"""Webhook events that were processed, and deliveries that wait in Postgres."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

from service.storage.tables.columns import metadata, text_column, time_column

webhook_events = Table(
    "webhook_events",
    metadata,
    text_column("id", "The event's id; `sha256:` and a digest where the vendor sent none", primary_key=True),
    text_column("event", "The vendor's name of what happened, such as model.deleted", nullable=False),
    text_column("model_id", "The model it is about; null where it is about none"),
    text_column(
        "status",
        "applied, stale (older than what was known), ignored (about no model) or dead (could not be applied)",
        nullable=False,
    ),
    text_column("error", "Why it is dead"),
    Column("payload", JSONB, comment="The body as it was sent, without login links"),
    time_column("created_at", "When it happened, by the vendor; null where the body has no time"),
    time_column("received_at", "When the webhook endpoint received it", nullable=False),
    time_column("signed_at", "Signed timestamp of its first delivery: it did not happen later"),
    time_column("processed_at", "When it was applied", nullable=False),
    Column("deliveries", Integer, nullable=False, server_default=text("1"), comment="How many times it was delivered"),
    Column(
        "delivery_ids",
        ARRAY(Text),
        comment="Our ids of its first deliveries, so that one that is read twice counts once",
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
    time_column("received_at", "When the webhook endpoint received it", nullable=False),
    text_column("delivery_id", "Our id of the delivery: Redis may hold it too"),
    text_column("event_id", "The event's id; null where it has to be read from the body"),
    comment="The spool: deliveries that wait in Postgres because Redis could not take them",
)

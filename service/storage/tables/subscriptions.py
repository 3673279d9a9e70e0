"""Services that are sent changes, and the changes that each has not acknowledged yet."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Identity, Integer, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.storage.tables.columns import count_column, metadata, parent_column, text_column, time_column

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the subscription"),
    text_column("name", "Its name, by which commands and the API find it", nullable=False, unique=True),
    text_column("url", "Where its requests go", nullable=False),
    Column("statuses", ARRAY(Text), comment="Only changes to one of these statuses; null: all"),
    Column("teams", ARRAY(Text), comment="Only changes of models that are then in one of these teams; null: all"),
    Column("with_personal_data", Boolean, nullable=False, comment="Whether its requests hold personal data"),
    Column("batch", SmallInteger, comment="How many changes one request holds at most; null: one, and no list"),
    text_column("state", "active, paused (by a person), failing (for three days) or disabled", nullable=False),
    text_column("reason", "Why it is failing or disabled"),
    Column(
        "cursor",
        BigInteger,
        nullable=False,
        comment="The lowest id of a change that it has not acknowledged, or that was not read for it yet",
    ),
    Column("read_to", BigInteger, nullable=False, comment="Changes up to this id were read for it"),
    Column(
        "delivered", BigInteger, nullable=False, server_default=text("0"), comment="How many changes it acknowledged"
    ),
    time_column("created_at", "When it was added", nullable=False),
    time_column("delivered_at", "When it last acknowledged a change"),
    time_column("failed_at", "When a request to it last failed"),
    Column("failed_status", SmallInteger, comment="HTTP status of that response; null where there was none"),
    text_column("failed_reason", "Why that request failed"),
    text_column("secret", "The secret that signs its requests", nullable=False),
    text_column("previous_secret", "The secret before the last rotation"),
    time_column("previous_secret_until", "Until then the previous secret signs, too"),
    count_column("replays", "How often a person had changes sent again; a part of the ids of its requests"),
    count_column("version", "Counts what makes its sender begin anew"),
    text_column("holder", "The process that sends to it"),
    time_column("leased_until", "When the lease of that process ends"),
    text_column("requested_by", "No longer used"),
    time_column("requested_until", "No longer used"),
    Column(
        "recent_requests",
        JSONB,
        nullable=False,
        server_default=text("'[]'"),
        comment="Its newest requests, the newest first, 20 at most: time, first change, number of changes, status, "
        "duration, number of the attempt, error",
    ),
    comment="Services that are sent changes as outgoing webhooks",
)

subscription_deliveries = Table(
    "subscription_deliveries",
    metadata,
    parent_column("subscription_id", subscriptions.c.id, "The subscription", primary_key=True),
    Column("change_id", BigInteger, primary_key=True, comment="The change in model_changes"),
    text_column("model_id", "The model that changed", nullable=False),
    Column("batch", BigInteger, comment="The first change of the batch it is sent in; null while it is in none"),
    Column("attempts", Integer, nullable=False, comment="How many requests that carried it have failed"),
    time_column("first_failed_at", "When the first of them failed; null where none has"),
    time_column("due_at", "When it may be sent again; null: as soon as its turn comes"),
    Column("status", SmallInteger, comment="HTTP status of the last of them; null where there was none"),
    text_column("error", "Why the last of them failed"),
    comment="Changes that were read for a subscription and not acknowledged by it yet, as of about a second ago",
)

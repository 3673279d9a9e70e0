"""subscriptions: services that are sent changes.

Revision ID: 0003_subscriptions
Revises: 0002_audit_log
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003_subscriptions"
down_revision = "0002_audit_log"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    _subscriptions()
    _subscription_deliveries()


def _text(name: str, comment: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, comment=comment, **options)


def _time(name: str, comment: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), comment=comment, **options)


def _count(name: str, comment: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"), comment=comment)


def _subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column(
            "id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Number of the subscription"
        ),
        _text("name", "Its name, by which commands and the API find it", nullable=False, unique=True),
        _text("url", "Where its requests go", nullable=False),
        sa.Column("statuses", postgresql.ARRAY(sa.Text), comment="Only changes to one of these statuses; null: all"),
        sa.Column(
            "teams",
            postgresql.ARRAY(sa.Text),
            comment="Only changes of models that are then in one of these teams; null: all",
        ),
        sa.Column("with_personal_data", sa.Boolean, nullable=False, comment="Whether its requests hold personal data"),
        sa.Column(
            "batch", sa.SmallInteger, comment="How many changes one request holds at most; null: one, and no list"
        ),
        _text("state", "active, paused (by a person), failing (for three days) or disabled", nullable=False),
        _text("reason", "Why it is failing or disabled"),
        sa.Column(
            "cursor",
            sa.BigInteger,
            nullable=False,
            comment="The lowest id of a change that it has not acknowledged, or that was not read for it yet",
        ),
        sa.Column("read_to", sa.BigInteger, nullable=False, comment="Changes up to this id were read for it"),
        sa.Column(
            "delivered",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("0"),
            comment="How many changes it acknowledged",
        ),
        _time("created_at", "When it was added", nullable=False),
        _time("delivered_at", "When it last acknowledged a change"),
        _time("failed_at", "When a request to it last failed"),
        sa.Column("failed_status", sa.SmallInteger, comment="HTTP status of that response; null where there was none"),
        _text("failed_reason", "Why that request failed"),
        _text("secret", "The secret that signs its requests", nullable=False),
        _text("previous_secret", "The secret before the last rotation"),
        _time("previous_secret_until", "Until then the previous secret signs, too"),
        _count("replays", "How often a person had changes sent again; a part of the ids of its requests"),
        _count("version", "Counts what makes its sender begin anew"),
        _text("holder", "The process that sends to it"),
        _time("leased_until", "When the lease of that process ends"),
        schema=SCHEMA,
        comment="Services that are sent changes as outgoing webhooks",
    )


def _subscription_deliveries() -> None:
    op.create_table(
        "subscription_deliveries",
        sa.Column(
            "subscription_id",
            sa.BigInteger,
            sa.ForeignKey("headshotpro.subscriptions.id", ondelete="CASCADE"),
            primary_key=True,
            comment="The subscription",
        ),
        sa.Column("change_id", sa.BigInteger, primary_key=True, comment="The change in model_changes"),
        _text("model_id", "The model that changed", nullable=False),
        sa.Column(
            "batch", sa.BigInteger, comment="The first change of the batch it is sent in; null while it is in none"
        ),
        sa.Column("attempts", sa.Integer, nullable=False, comment="How many requests that carried it have failed"),
        _time("first_failed_at", "When the first of them failed; null where none has"),
        _time("due_at", "When it may be sent again; null: as soon as its turn comes"),
        sa.Column("status", sa.SmallInteger, comment="HTTP status of the last of them; null where there was none"),
        _text("error", "Why the last of them failed"),
        schema=SCHEMA,
        comment="Changes that were read for a subscription and not acknowledged by it yet, as of about a second ago",
    )

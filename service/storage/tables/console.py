"""Tables that only the web console uses."""

from __future__ import annotations

from sqlalchemy import Column, SmallInteger, Table
from sqlalchemy.dialects.postgresql import JSONB

from service.storage.tables.columns import metadata, text_column, time_column

console_secret = Table(
    "console_secret",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
    text_column("secret", "Random; it signs the console's sessions together with a password", nullable=False),
    time_column("created_at", "When a web process made it", nullable=False),
    comment="The secret of the console's sessions: without the row all of them end",
)

status_samples = Table(
    "status_samples",
    metadata,
    time_column("at", "When the models were counted", primary_key=True),
    Column("models", JSONB, nullable=False, comment="How many models were in each status"),
    comment="How many models were in each status over time, for the console: a row every five minutes, kept 31 days",
)

"""The processes that run now, and what web and workers keep for the console alone."""

from __future__ import annotations

from sqlalchemy import Column, SmallInteger, Table
from sqlalchemy.dialects.postgresql import JSONB

from service.storage.tables.columns import metadata, text_column, time_column

processes = Table(
    "processes",
    metadata,
    text_column("name", "Its host, process number and a random part: unique", primary_key=True),
    text_column("kind", "web, worker or clock", nullable=False),
    text_column("host", "Name of the machine it runs on", nullable=False),
    text_column("version", "Version of headshot-mirror that it runs", nullable=False),
    time_column("started_at", "When it started", nullable=False),
    time_column("seen_at", "When its last heartbeat arrived, by Postgres' clock", nullable=False),
    comment="Processes that run now: each sends a heartbeat every five seconds and removes its row when it stops",
)


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

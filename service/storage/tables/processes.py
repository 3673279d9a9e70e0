"""The processes that run now."""

from __future__ import annotations

from sqlalchemy import Table

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

"""The state of the system: its processes, how many models were in each status, and how long events take."""

from __future__ import annotations

from sqlalchemy import Column, Float, Integer, SmallInteger, Table
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

status_samples = Table(
    "status_samples",
    metadata,
    time_column("at", "When the models were counted", primary_key=True),
    Column("models", JSONB, nullable=False, comment="How many models were in each status"),
    comment="How many models were in each status over time, for the console: a row every five minutes, kept 31 days",
)

event_lags = Table(
    "event_lags",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
    Column("events", Integer, nullable=False, comment="How many events that was, 50,000 at most"),
    Column(
        "event_lag_p50",
        Float,
        comment="Median seconds from the receipt of an event to its row, of the last hour; null without any event",
    ),
    Column("event_lag_p95", Float, comment="95th percentile of it"),
    Column("event_lag_p99", Float, comment="99th percentile of it"),
    Column(
        "delivery_lag_p50",
        Float,
        comment="Median seconds from an event at the vendor to its receipt, of the last hour; null without any event",
    ),
    Column("delivery_lag_p95", Float, comment="95th percentile of it"),
    Column("delivery_lag_p99", Float, comment="99th percentile of it"),
    time_column("computed_at", "When it was computed", nullable=False),
    comment="How long the newest events of the last hour took; a worker computes it each minute",
)

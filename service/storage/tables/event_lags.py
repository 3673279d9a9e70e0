"""How long events took from the vendor to their rows."""

from __future__ import annotations

from sqlalchemy import Column, Float, Integer, SmallInteger, Table

from service.storage.tables.columns import metadata, time_column

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

"""The tables of schema `headshotpro`, one file for each subject, with the comments that dashboard authors read.

The migrations make them; `make check` fails where the two disagree. Why these names and indexes:
`docs/decisions/0033-names-in-the-schema.md`.
"""

from __future__ import annotations

from service.storage.tables import console, event_lags, idempotency, outcomes, tasks  # noqa: F401 - metadata gets theirs
from service.storage.tables.accuracy import accuracy_checks, accuracy_figures
from service.storage.tables.alerts import alerts
from service.storage.tables.audit import audit_log
from service.storage.tables.columns import SCHEMA, metadata
from service.storage.tables.events import webhook_events
from service.storage.tables.models import model_changes, model_clocks, models
from service.storage.tables.processes import processes
from service.storage.tables.pulls import pulls, refetch_requests, set_aside
from service.storage.tables.subscriptions import subscription_deliveries, subscriptions

__all__ = [
    "SCHEMA",
    "accuracy_checks",
    "accuracy_figures",
    "alerts",
    "audit_log",
    "metadata",
    "model_changes",
    "model_clocks",
    "models",
    "processes",
    "pulls",
    "refetch_requests",
    "set_aside",
    "subscription_deliveries",
    "subscriptions",
    "webhook_events",
]

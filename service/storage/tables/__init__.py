"""The tables of schema `headshotpro`, one file for each subject, with the comments that dashboard authors read.

The migrations make them; `make check` fails where the two disagree. Why these names and indexes:
`docs/decisions/0033-names-in-the-schema.md`.
"""

from __future__ import annotations

from service.storage.tables.accuracy import accuracy_checks, accuracy_figures
from service.storage.tables.alerts import alert_evaluator, alerts, notification_deliveries, notifications, receivers
from service.storage.tables.audit import audit_log
from service.storage.tables.columns import SCHEMA, metadata
from service.storage.tables.console import console_secret, status_samples
from service.storage.tables.event_lags import event_lags
from service.storage.tables.events import event_spool, webhook_events
from service.storage.tables.idempotency import idempotency_keys
from service.storage.tables.models import foreign_writes, model_changes, model_clocks, models
from service.storage.tables.outcomes import model_outcomes, outcome_counts, outcome_progress, stale_outcomes
from service.storage.tables.processes import processes
from service.storage.tables.pulls import (
    held_suspects,
    organization,
    pull_checkpoints,
    pulls,
    refetch_requests,
    set_aside,
)
from service.storage.tables.subscriptions import subscription_deliveries, subscriptions
from service.storage.tables.tasks import tasks

__all__ = [
    "SCHEMA",
    "accuracy_checks",
    "accuracy_figures",
    "alert_evaluator",
    "alerts",
    "audit_log",
    "console_secret",
    "event_lags",
    "event_spool",
    "foreign_writes",
    "held_suspects",
    "idempotency_keys",
    "metadata",
    "model_changes",
    "model_clocks",
    "model_outcomes",
    "models",
    "notification_deliveries",
    "notifications",
    "organization",
    "outcome_counts",
    "outcome_progress",
    "processes",
    "pull_checkpoints",
    "pulls",
    "receivers",
    "refetch_requests",
    "set_aside",
    "stale_outcomes",
    "status_samples",
    "subscription_deliveries",
    "subscriptions",
    "tasks",
    "webhook_events",
]

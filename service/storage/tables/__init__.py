"""The tables of schema `headshotpro`, one file for each subject, with the comments that dashboard authors read.

The migrations make them; `make check` fails where the two disagree.
"""

from __future__ import annotations

from service.storage.tables.alerts import alert_watch, alerts, notice_deliveries, notices, receivers
from service.storage.tables.columns import SCHEMA, metadata
from service.storage.tables.events import event_spool, webhook_events
from service.storage.tables.idempotency import idempotency_keys
from service.storage.tables.models import model_changes, model_clocks, models
from service.storage.tables.processes import processes
from service.storage.tables.pulls import held_suspects, organization, pull_checkpoints, pulls, set_aside, wishes

__all__ = [
    "SCHEMA",
    "alert_watch",
    "alerts",
    "event_spool",
    "held_suspects",
    "idempotency_keys",
    "metadata",
    "model_changes",
    "model_clocks",
    "models",
    "notice_deliveries",
    "notices",
    "organization",
    "processes",
    "pull_checkpoints",
    "pulls",
    "receivers",
    "set_aside",
    "webhook_events",
    "wishes",
]

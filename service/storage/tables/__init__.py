"""The tables of schema `headshotpro`, one file for each subject, with the comments that dashboard authors read.

The migrations make them; `make check` fails where the two disagree. Why these names and indexes:
`docs/decisions/0033-names-in-the-schema.md`.
"""

from __future__ import annotations

from service.storage.tables import (  # noqa: F401 - metadata gets theirs
    accuracy,
    alerts,
    audit,
    console,
    event_lags,
    events,
    idempotency,
    outcomes,
    processes,
    pulls,
    subscriptions,
    tasks,
)
from service.storage.tables.columns import SCHEMA, metadata
from service.storage.tables.models import model_clocks, models

__all__ = ["SCHEMA", "metadata", "model_clocks", "models"]

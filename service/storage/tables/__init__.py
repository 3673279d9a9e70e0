"""The tables of schema `headshotpro`, one file for each subject, with the comments that dashboard authors read.

The migrations make them; `make check` fails where the two disagree. Why these names and indexes:
`docs/decisions/0033-names-in-the-schema.md`.
"""

from __future__ import annotations

# The metadata gets theirs.
from service.storage.tables import accuracy, acts, alerts, events, pulls, state, subscriptions  # noqa: F401
from service.storage.tables.columns import SCHEMA, metadata
from service.storage.tables.models import model_clocks, models

__all__ = ["SCHEMA", "metadata", "model_clocks", "models"]

"""Acts of people and of API clients."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Table
from sqlalchemy.dialects.postgresql import JSONB

from service.storage.tables.columns import filled_column, metadata, text_column, time_column

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order of the acts"),
    time_column("at", "When the act began, by Postgres' clock", nullable=False),
    text_column(
        "actor", "Name of the console user, of the key in MIRROR_API_KEYS, or of the system user", nullable=False
    ),
    text_column("actor_kind", "console, api or command_line", nullable=False),
    text_column("address", "Address that the request came from; for a command the name of its machine"),
    text_column("action", "The act, such as model.delete", nullable=False),
    text_column("target", "Id or name of its object; null where it has none, or none yet"),
    text_column(
        "outcome",
        "begun, done, refused (by the upstream), failed, or unknown (no response from the upstream)",
        nullable=False,
    ),
    filled_column("detail", JSONB, "'{}'", "What else belongs to it; no personal data and no secrets"),
    comment="One row for each act by the console, the API or the command line; kept for 400 days",
)
Index(None, audit_log.c.at)

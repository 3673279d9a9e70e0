"""Creates that clients of our API may repeat."""

from __future__ import annotations

from sqlalchemy import Column, Index, SmallInteger, Table

from service.storage.tables.columns import metadata, text_column, time_column

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    text_column("scope", "SHA-256 of the API key of ours that the caller has, in hex", primary_key=True),
    text_column("key", "The caller's Idempotency-Key", primary_key=True),
    text_column("fingerprint", "SHA-256 of what was asked for, in hex", nullable=False),
    text_column("holder", "The request that works on it, or did last", nullable=False),
    time_column("claimed_at", "When the key first came", nullable=False),
    time_column("leased_until", "Until then nobody else may work on it", nullable=False),
    Column(
        "tries",
        SmallInteger,
        nullable=False,
        comment="How often the create was begun; from the second on, an earlier one may have happened",
    ),
    text_column("model_id", "The model that was created; null while that is not known"),
    text_column("status", "The status with which it was created"),
    comment="Creates that came through our API with an Idempotency-Key; kept for 24 hours",
)
Index(None, idempotency_keys.c.claimed_at)

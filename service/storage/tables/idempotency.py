"""Creates that clients of the API may repeat."""

from __future__ import annotations

from sqlalchemy import Column, Index, SmallInteger, Table

from service.storage.tables.columns import metadata, text_column, time_column

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    text_column("scope", "SHA-256 of the client's key in MIRROR_API_KEYS, in hex", primary_key=True),
    text_column("key", "The client's Idempotency-Key", primary_key=True),
    text_column("fingerprint", "SHA-256 of the request, in hex", nullable=False),
    text_column("holder", "The request that works on it, or worked on it last", nullable=False),
    time_column("claimed_at", "When the key was first used", nullable=False),
    time_column("leased_until", "Until then no other request may work on it", nullable=False),
    Column(
        "attempts",
        SmallInteger,
        nullable=False,
        comment="How often the create was begun; beyond 1, an earlier one may have succeeded",
    ),
    text_column("model_id", "The model that was created; null while it is not known"),
    text_column("status", "The status with which it was created"),
    comment="Creates through the API with an Idempotency-Key; kept for 24 hours",
)
Index(None, idempotency_keys.c.claimed_at)

"""what the API needs: indexes in the order of its pages, and the keys of creates.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Those that had only their first columns stay for code of before; a later release may drop them.
    expand.create_index("models_page_idx", "models", ["created_at", "id"], postgresql_include=["status"])
    expand.create_index("models_status_page_idx", "models", ["status", "created_at", "id"])
    expand.create_index(
        "models_team_page_idx",
        "models",
        ["team_id", "created_at", "id"],
        postgresql_include=["status"],
    )
    op.create_table(
        "idempotency_keys",
        sa.Column(
            "scope", sa.Text(), nullable=False, comment="SHA-256 of the API key of ours that the caller has, in hex"
        ),
        sa.Column("key", sa.Text(), nullable=False, comment="The caller's Idempotency-Key"),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="SHA-256 of what was asked for, in hex"),
        sa.Column("holder", sa.Text(), nullable=False, comment="The request that works on it, or did last"),
        sa.Column("claimed_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When the key first came"),
        sa.Column(
            "leased_until",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="Until then nobody else may work on it",
        ),
        sa.Column(
            "tries",
            sa.SmallInteger(),
            nullable=False,
            comment="How often the create was begun; from the second on, an earlier one may have happened",
        ),
        sa.Column(
            "model_id", sa.Text(), nullable=True, comment="The model that was created; null while that is not known"
        ),
        sa.Column("status", sa.Text(), nullable=True, comment="The status with which it was created"),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("idempotency_keys_pkey")),
        schema="headshotpro",
        comment="Creates that came through our API with an Idempotency-Key; kept for 24 hours",
    )
    op.create_index(op.f("idempotency_keys_claimed_at_idx"), "idempotency_keys", ["claimed_at"], schema="headshotpro")
    # Pages deep in the list are read from an index alone, as far as vacuum has been over the rows behind it.
    op.execute(
        "ALTER TABLE headshotpro.models"
        " SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.01)"
    )

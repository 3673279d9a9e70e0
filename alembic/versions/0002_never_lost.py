"""what makes each delivery count once, events replayable, tombstones erasable.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    expand.create_index(
        "models_to_erase_idx",
        "models",
        ["deleted_at"],
        postgresql_where=sa.text("status = 'deleted' AND erased_at IS NULL"),
    )
    expand.lock("event_spool", "webhook_events")
    signed_at = sa.Column(
        "signed_at",
        postgresql.TIMESTAMP(timezone=True),
        comment="The signed timestamp of its first delivery: it did not happen later",
    )
    delivery_ids = sa.Column(
        "delivery_ids",
        postgresql.ARRAY(sa.Text()),
        comment="The endpoint's ids of its first deliveries: one read twice counts once",
    )
    delivery_id = sa.Column("delivery_id", sa.Text(), comment="The endpoint's id of it: Redis may hold it too")
    op.add_column("webhook_events", signed_at, schema=SCHEMA)
    op.add_column("webhook_events", delivery_ids, schema=SCHEMA)
    op.add_column("event_spool", delivery_id, schema=SCHEMA)

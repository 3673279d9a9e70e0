"""the event's id travels with a delivery, because its body is no longer kept as it was received.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.storage.migrations import expand

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    expand.lock("event_spool")
    # A web process of before leaves it null; a worker of before does not read it.
    op.add_column(
        "event_spool",
        sa.Column(
            "event_id",
            sa.Text(),
            nullable=True,
            comment="The id of its event; null where an older web process took it: it is found in the body then",
        ),
        schema="headshotpro",
    )
    op.alter_column("event_spool", "body", comment="The delivery's body, without login links", schema="headshotpro")
    op.alter_column(
        "webhook_events", "payload", comment="The body as it was sent, without login links", schema="headshotpro"
    )

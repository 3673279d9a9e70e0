"""how far the upstream's clock is off, for the alert clock_skew.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    expand.lock("alert_watch")
    op.add_column(
        "alert_watch",
        sa.Column(
            "clock_skewed_at",
            TIME,
            nullable=True,
            comment="When a response of the upstream last had a Date that was not believed",
        ),
        schema="headshotpro",
    )
    op.add_column(
        "alert_watch",
        sa.Column(
            "clock_skew_seconds",
            sa.Float(),
            nullable=True,
            comment="How far it was ahead of our clock then; negative: behind",
        ),
        schema="headshotpro",
    )
    op.add_column(
        "alert_watch",
        sa.Column("clock_agreed_at", TIME, nullable=True, comment="When the upstream's clock agreed with ours again"),
        schema="headshotpro",
    )

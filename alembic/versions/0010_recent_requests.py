"""recent_requests: the newest requests to each subscription, for people.

Revision ID: 0010_recent_requests
Revises: 0009_foreign_writes
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0010_recent_requests"
down_revision = "0009_foreign_writes"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    expand.lock("subscriptions")
    op.add_column(
        "subscriptions",
        sa.Column(
            "recent_requests",
            postgresql.JSONB,
            nullable=False,
            server_default=sa.text("'[]'"),
            comment="Its newest requests, the newest first, 20 at most: time, first change, number of changes, status, "
            "duration, number of the attempt, error",
        ),
        schema=SCHEMA,
    )

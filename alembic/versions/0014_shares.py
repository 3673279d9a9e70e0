"""subscriptions: a process that has less than its share of them can request one.

Revision ID: 0014_shares
Revises: 0013_comments
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0014_shares"
down_revision = "0013_comments"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    expand.lock("subscriptions")
    op.add_column(
        "subscriptions",
        sa.Column("requested_by", sa.Text(), comment="A process that has less than its share and takes it over next"),
        schema=SCHEMA,
    )
    op.add_column(
        "subscriptions",
        sa.Column("requested_until", postgresql.TIMESTAMP(timezone=True), comment="When that request ends"),
        schema=SCHEMA,
    )

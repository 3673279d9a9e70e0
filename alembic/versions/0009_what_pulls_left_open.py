"""which pull met a set-aside record last, and which suspects a pull left to the next one.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    expand.lock("set_aside", "pulls")
    op.add_column(
        "set_aside",
        sa.Column("last_pull_id", sa.BigInteger(), nullable=True, comment="The newest pull that met it"),
        schema="headshotpro",
    )
    op.add_column(
        "pulls",
        sa.Column(
            "postponed",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Suspects whose GET failed three times: the next full pull decides about them",
        ),
        schema="headshotpro",
    )

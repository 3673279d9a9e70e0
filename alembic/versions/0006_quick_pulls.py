"""what makes a pull quick: marks of what pages told.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from service.storage.migrations import expand

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    expand.lock("model_clocks")
    # Code of before knows nothing of these and leaves them as they are; the times tell that they are of the past then.
    op.add_column(
        "model_clocks",
        sa.Column(
            "shown_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time of the newest list page that told what shown_mark stands for",
        ),
        schema="headshotpro",
    )
    op.add_column(
        "model_clocks",
        sa.Column(
            "shown_mark",
            sa.BigInteger(),
            nullable=True,
            comment="Digest of what that page told; where core_at and profile_at are still shown_at, it is what is known",
        ),
        schema="headshotpro",
    )

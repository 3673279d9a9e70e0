"""the console's session secret, and samples of how many models are in each status.

Revision ID: 0004_console
Revises: 0003_subscriptions
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004_console"
down_revision = "0003_subscriptions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make two tables; no other is touched."""
    op.create_table(
        "console_secret",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="1: there is one row"),
        sa.Column(
            "secret",
            sa.Text(),
            nullable=False,
            comment="Random; it signs the console's sessions together with a password",
        ),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When a web process made it"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("console_secret_pkey")),
        schema="headshotpro",
        comment="The secret of the console's sessions: without the row all of them end",
    )
    op.create_table(
        "status_samples",
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When the models were counted"),
        sa.Column("models", postgresql.JSONB(), nullable=False, comment="How many models were in each status"),
        sa.PrimaryKeyConstraint("at", name=op.f("status_samples_pkey")),
        schema="headshotpro",
        comment="How many models were in each status over time, for the console: a row every five minutes, kept 31 days",
    )

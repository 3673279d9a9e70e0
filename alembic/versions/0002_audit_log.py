"""the audit log: one row for each act of a person or an API client.

Revision ID: 0002_audit_log
Revises: 0001_first
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_audit_log"
down_revision = "0001_first"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    time = postgresql.TIMESTAMP(timezone=True)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Order of the acts"),
        sa.Column("at", time, nullable=False, comment="When the act began, by Postgres' clock"),
        sa.Column(
            "actor",
            sa.Text,
            nullable=False,
            comment="Name of the console user, of the key in MIRROR_API_KEYS, or of the system user",
        ),
        sa.Column("actor_kind", sa.Text, nullable=False, comment="console, api or command_line"),
        sa.Column(
            "address", sa.Text, comment="Address that the request came from; for a command the name of its machine"
        ),
        sa.Column("action", sa.Text, nullable=False, comment="The act, such as model.delete"),
        sa.Column("target", sa.Text, comment="Id or name of its object; null where it has none, or none yet"),
        sa.Column(
            "outcome",
            sa.Text,
            nullable=False,
            comment="begun, done, refused (by the upstream), failed, or unknown (no response from the upstream)",
        ),
        sa.Column(
            "detail",
            postgresql.JSONB,
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="What else belongs to it; no personal data and no secrets",
        ),
        schema=SCHEMA,
        comment="One row for each act by the console, the API or the command line; kept for 400 days",
    )
    op.create_index("audit_log_at_idx", "audit_log", ["at"], schema=SCHEMA)

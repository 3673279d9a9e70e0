"""tasks: work of many transactions that operators begin in the console, and workers do.

Revision ID: 0011_tasks
Revises: 0010_recent_requests
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011_tasks"
down_revision = "0010_recent_requests"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text("0"), comment=comment)


def upgrade() -> None:
    """Make the table; older code does not know it."""
    time = postgresql.TIMESTAMP(timezone=True)
    op.create_table(
        "tasks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of the tasks"),
        sa.Column("kind", sa.Text(), nullable=False, comment="replay (of events) or release (of a held pull)"),
        sa.Column("status", sa.Text(), nullable=False, comment="running, done, cancelled or failed"),
        sa.Column("target", sa.Text(), comment="Number of the pull that is released; null for a replay"),
        sa.Column("search", postgresql.JSONB(), comment="Which events are replayed"),
        sa.Column(
            "state",
            postgresql.JSONB(),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="Where the next slice goes on",
        ),
        _count("total", "How many events or suspects there were when it began"),
        _count("done", "How many of them were handled"),
        _count("failed", "How many of those could not be applied or decided"),
        sa.Column("audit_id", sa.BigInteger(), nullable=False, comment="Its row in audit_log"),
        sa.Column("created_at", time, nullable=False, comment="When a person began it"),
        sa.Column("moved_at", time, comment="When a worker last did a part of it; null before the first"),
        sa.Column("finished_at", time, comment="When it ended"),
        sa.Column("error", sa.Text(), comment="Why it failed"),
        sa.PrimaryKeyConstraint("id", name=op.f("tasks_pkey")),
        schema=SCHEMA,
        comment="Work of many transactions that an operator began in the console; kept as long as the audit log",
    )
    op.create_index(
        "tasks_running_idx",
        "tasks",
        ["kind"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("status = 'running'"),
    )

"""a made-up revision after the real ones, with everything that a revision may do to tables in use.

Revision ID: 9999_made_up
Revises: the newest real one
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from service.storage.migrations import expand

revision = "9999_made_up"
down_revision = max(path.stem for path in Path(__file__).parent.glob("[0-8]*.py"))
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    expand.create_index("models_made_up_idx", "models", ["deleted_at"], postgresql_where=sa.text("uid IS NOT NULL"))
    expand.create_index("model_changes_made_up_idx", "model_changes", ["source", "id"])
    expand.lock("pulls", "event_spool", "webhook_events")
    op.add_column("event_spool", sa.Column("made_up", sa.Text, comment="It may be null"), schema=SCHEMA)
    op.add_column(
        "webhook_events",
        sa.Column("made_up", sa.Integer, nullable=False, server_default=sa.text("0"), comment="It has a default"),
        schema=SCHEMA,
    )
    op.alter_column("webhook_events", "payload", comment="A new comment", schema=SCHEMA)
    op.create_table(
        "made_up",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="A number"),
        sa.Column(
            "pull_id", sa.BigInteger, sa.ForeignKey("headshotpro.pulls.id", ondelete="CASCADE"), comment="A pull"
        ),
        schema=SCHEMA,
        comment="A new table that refers to an old one",
    )
    op.create_index("made_up_pull_id_idx", "made_up", ["pull_id"], schema=SCHEMA)
    op.execute("CREATE VIEW headshotpro.made_up_pulls AS SELECT pull_id FROM headshotpro.made_up")

"""the digest in model_clocks is of what is known, whatever source it comes from.

Revision ID: 0007_digests_of_lists
Revises: 0006_outcomes
"""

from alembic import op

revision = "0007_digests_of_lists"
down_revision = "0006_outcomes"
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    """Change comments. Digests of before have another form: the next pull merges each model once, and renews its own."""
    op.alter_column("model_clocks", "shown_at", comment="No longer used", schema=SCHEMA)
    op.alter_column(
        "model_clocks",
        "shown_digest",
        comment="Digest of what is known of the list's fields, where one time holds for all; a page may confirm it",
        schema=SCHEMA,
    )

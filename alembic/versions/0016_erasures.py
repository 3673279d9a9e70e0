"""tasks: comments that name erasures, and the status of one that waits.

Revision ID: 0016_erasures
Revises: 0015_differences
"""

from alembic import op

revision = "0016_erasures"
down_revision = "0015_differences"
branch_labels = None
depends_on = None

COMMENTS = {
    "kind": "replay (of events), release (of a held pull) or erase (of a model)",
    "status": "waiting (for another one of its kind), running, done, cancelled or failed",
    "target": "Number of the pull that is released, or id of the model that is erased; null for a replay",
}


def upgrade() -> None:
    """Replace the comments; neither readers nor writers wait."""
    for column, comment in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN headshotpro.tasks.{column} IS '{comment}'")

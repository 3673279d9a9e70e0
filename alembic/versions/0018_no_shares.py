"""subscriptions: comments of two columns that no process uses any more.

Revision ID: 0018_no_shares
Revises: 0017_merge_functions
"""

from alembic import op

revision = "0018_no_shares"
down_revision = "0017_merge_functions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the comments; neither readers nor writers wait."""
    for name in ("requested_by", "requested_until"):
        op.execute(f"COMMENT ON COLUMN headshotpro.subscriptions.{name} IS 'No longer used'")

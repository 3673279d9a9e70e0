"""model_clocks: room in each page for a second version of each row, so that a pull's confirmation touches no index.

Revision ID: 0012_room_for_clocks
Revises: 0011_tasks
"""

from alembic import op

revision = "0012_room_for_clocks"
down_revision = "0011_tasks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leave more room from now on; no row is rewritten, and neither readers nor writers wait."""
    op.execute("ALTER TABLE headshotpro.model_clocks SET (fillfactor = 45)")

"""accuracy_figures, event_lags: comments that name the process which computes them, a worker.

Revision ID: 0013_comments
Revises: 0012_room_for_clocks
"""

from alembic import op

revision = "0013_comments"
down_revision = "0012_room_for_clocks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the comments; neither readers nor writers wait."""
    op.execute("COMMENT ON COLUMN headshotpro.accuracy_figures.computed_at IS 'When a worker computed it'")
    op.execute(
        "COMMENT ON TABLE headshotpro.accuracy_figures IS "
        "'The figures of the view accuracy; a worker computes them each minute'"
    )
    op.execute(
        "COMMENT ON TABLE headshotpro.event_lags IS "
        "'How long the newest events of the last hour took; a worker computes it each minute'"
    )

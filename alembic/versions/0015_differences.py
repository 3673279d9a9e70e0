"""accuracy_checks: an index of what is not repaired; models: a truncation is noted as other foreign writes are.

Revision ID: 0015_differences
Revises: 0014_shares
"""

import sqlalchemy as sa
from alembic import op

from service.storage.migrations import expand

revision = "0015_differences"
down_revision = "0014_shares"
branch_labels = None
depends_on = None

# Before, while the rows can be named. `models_changed` is a trigger of rows, and a truncation has none.
MODELS_TRUNCATED = """
CREATE FUNCTION headshotpro.models_truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO headshotpro.foreign_writes (model_id) SELECT id FROM headshotpro.models;
    RETURN NULL;
END
$$
"""
TRIGGER = """
CREATE TRIGGER models_truncated BEFORE TRUNCATE ON headshotpro.models FOR EACH STATEMENT
    EXECUTE FUNCTION headshotpro.models_truncated()
"""


def upgrade() -> None:
    """Readers do not wait, and writers wait for one statement."""
    expand.create_index(
        "accuracy_checks_unrepaired_idx",
        "accuracy_checks",
        ["id"],
        postgresql_where=sa.text("NOT agreed AND repaired_at IS NULL"),
    )
    op.execute(MODELS_TRUNCATED)
    op.execute(TRIGGER)

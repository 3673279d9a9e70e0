"""Functions that lock, read and write what a merge does: each connection plans their statements once.

Revision ID: 0017_merge_functions
Revises: 0016_erasures
"""

from alembic import op

from service.storage.migrations import merge_functions

revision = "0017_merge_functions"
down_revision = "0016_erasures"
branch_labels = None
depends_on = None

CLOCKS = {
    "model_id": "text",
    **dict.fromkeys(("core_at", "invitation_at", "profile_at", "detail_at", "alive_at"), "timestamptz"),
    **dict.fromkeys(("deletion_evidence_from", "deletion_evidence_at", "deleted_at_upstream"), "timestamptz"),
    "observed_until": "timestamptz",
    "core_status": "text",
    "exceptions": "jsonb",
    "shown_digest": "bigint",
}
MODELS = {
    **dict.fromkeys(("id", "uid", "email", "title", "status", "team_id", "team_name"), "text"),
    "is_development": "boolean",
    "photo_count": "integer",
    "favorite_photo_id": "text",
    "created_at": "timestamptz",
    "finished_at": "timestamptz",
    "trigger": "text",
    "invite_expires_at": "timestamptz",
    "organization_id": "text",
    "deleted_at": "timestamptz",
    "observed_at": "timestamptz",
}
EVENTS = {
    **dict.fromkeys(("id", "event", "model_id", "status", "error"), "text"),
    "payload": "jsonb",
    **dict.fromkeys(("created_at", "received_at", "signed_at"), "timestamptz"),
    "delivery_ids": "text[]",
}
REQUESTS = {"model_id": "text", "after": "timestamptz", "reason": "text", "due_at": "timestamptz", "pull_id": "bigint"}
CHANGES = {
    **dict.fromkeys(("model_id", "from_status", "to_status"), "text"),
    "changed": "jsonb",
    "source": "text",
    "event_id": "text",
    "pull_id": "bigint",
    "observed_at": "timestamptz",
}
COLUMNS = merge_functions.Columns(CLOCKS, EVENTS, REQUESTS, MODELS, CHANGES)


def upgrade() -> None:
    """Make the functions; neither readers nor writers wait."""
    for statement in merge_functions.statements(1, COLUMNS):
        op.execute(statement)

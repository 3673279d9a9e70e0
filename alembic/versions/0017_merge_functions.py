"""Functions that lock, read and write what a merge does: each connection plans their statements once.

Revision ID: 0017_merge_functions
Revises: 0016_erasures
"""

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


def upgrade() -> None:
    """Make the functions; neither readers nor writers wait."""
    merge_functions.create(1, CLOCKS, MODELS)

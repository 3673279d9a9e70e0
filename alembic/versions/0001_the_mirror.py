"""the mirror's tables.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MODEL_AS_OF = """
CREATE FUNCTION headshotpro.model_as_of(id text, at timestamptz) RETURNS SETOF headshotpro.models
LANGUAGE sql STABLE AS $$
    WITH later AS (
        SELECT c.id, c.changed FROM headshotpro.model_changes AS c
        WHERE c.model_id = $1 AND c.recorded_at > $2
    ), undone AS (
        -- Of each column that changed since, the first change still holds the value as of then.
        SELECT DISTINCT ON (key) key, value -> 0 AS old FROM later, jsonb_each(later.changed) ORDER BY key, later.id
    ), newest AS (
        SELECT c.observed_at, c.recorded_at FROM headshotpro.model_changes AS c
        WHERE c.model_id = $1 AND c.recorded_at <= $2 ORDER BY c.id DESC LIMIT 1
    ), oldest AS (
        SELECT c.changed, c.recorded_at FROM headshotpro.model_changes AS c
        WHERE c.model_id = $1 ORDER BY c.id LIMIT 1
    )
    SELECT past.* FROM headshotpro.models AS m LEFT JOIN newest ON true,
    LATERAL jsonb_populate_record(m, (
        SELECT coalesce(jsonb_object_agg(key, old), '{}') FROM undone
    ) || jsonb_strip_nulls(jsonb_build_object(
        'observed_at', newest.observed_at, 'updated_at', newest.recorded_at
    ))) AS past
    WHERE m.id = $1
        -- It was not there yet where its first row, which comes from no status, lies later.
        AND NOT EXISTS (
            SELECT FROM oldest WHERE oldest.recorded_at > $2 AND oldest.changed -> 'status' -> 0 = 'null'::jsonb
        )
        AND (newest.recorded_at IS NOT NULL OR EXISTS (SELECT FROM later) OR m.updated_at <= $2)
$$
"""
COMMENT_ON_MODEL_AS_OF = """
COMMENT ON FUNCTION headshotpro.model_as_of(text, timestamptz) IS
    'The row of a model as it stood in the mirror at a time, from its history; no row where it was not there yet'
"""


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the alert"),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="model_failed, model_stuck, pull_stale, webhooks_missing, events_dead, tombstones_held or api_rejected",
        ),
        sa.Column(
            "model_id", sa.Text(), nullable=True, comment="The model it is about; null where it is about the mirror"
        ),
        sa.Column("opened_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When its cause was seen"),
        sa.Column(
            "resolved_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When its cause ended; null while it is open",
        ),
        sa.Column(
            "acknowledged_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="When a person took note"
        ),
        sa.Column(
            "detail",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="What was seen",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("alerts_pkey")),
        schema="headshotpro",
        comment="What people are woken by; at most one open row for each kind and model",
    )
    op.create_index(
        "alerts_open_idx",
        "alerts",
        ["kind", sa.literal_column("coalesce(model_id, '')")],
        unique=True,
        schema="headshotpro",
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_index(op.f("alerts_opened_at_idx"), "alerts", ["opened_at"], unique=False, schema="headshotpro")
    op.create_table(
        "event_spool",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of arrival"),
        sa.Column("body", postgresql.BYTEA(), nullable=False, comment="The delivery's raw body"),
        sa.Column("signed_at", sa.BigInteger(), nullable=False, comment="Its signed timestamp, Unix seconds"),
        sa.Column(
            "received_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When the endpoint took it"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("event_spool_pkey")),
        schema="headshotpro",
        comment="Deliveries taken while Redis could not take them",
    )
    op.create_table(
        "model_changes",
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Given out in commit order: a reader who polls for greater ids misses none",
        ),
        sa.Column("model_id", sa.Text(), nullable=False, comment="The model that changed"),
        sa.Column(
            "from_status",
            sa.Text(),
            nullable=True,
            comment="Status before; null in a model's first row and where the status did not change",
        ),
        sa.Column("to_status", sa.Text(), nullable=True, comment="Status after; null where it did not change"),
        sa.Column(
            "changed",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="Each changed column, to [old, new]",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="webhook, pull, refetch, api or erase"),
        sa.Column("event_id", sa.Text(), nullable=True, comment="The webhook event that told it"),
        sa.Column("pull_id", sa.BigInteger(), nullable=True, comment="The pull that told it"),
        sa.Column(
            "observed_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="Upstream time as of which it is true",
        ),
        sa.Column("recorded_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="Our time of the write"),
        sa.PrimaryKeyConstraint("id", name=op.f("model_changes_pkey")),
        schema="headshotpro",
        comment="Append-only: a row for each change of a model, written in the change's own transaction",
    )
    op.create_index(
        op.f("model_changes_model_id_id_idx"), "model_changes", ["model_id", "id"], unique=False, schema="headshotpro"
    )
    op.create_index(
        "model_changes_pull_id_idx",
        "model_changes",
        ["pull_id"],
        unique=False,
        schema="headshotpro",
        postgresql_where=sa.text("pull_id IS NOT NULL"),
    )
    op.create_index(
        op.f("model_changes_recorded_at_idx"), "model_changes", ["recorded_at"], unique=False, schema="headshotpro"
    )
    op.create_index(
        "model_changes_to_status_observed_at_idx",
        "model_changes",
        ["to_status", "observed_at"],
        unique=False,
        schema="headshotpro",
        postgresql_where=sa.text("to_status IS NOT NULL"),
    )
    op.create_table(
        "model_clocks",
        sa.Column("model_id", sa.Text(), nullable=False, comment="The model"),
        sa.Column(
            "core_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time as of which status, title, finished, uid, created, development are known",
        ),
        sa.Column(
            "invitation_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time as of which trigger, invite expiry and organization are known",
        ),
        sa.Column(
            "profile_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time as of which email and team are known: the newest API answer that showed it",
        ),
        sa.Column(
            "detail_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time as of which photo count and favourite are known",
        ),
        sa.Column(
            "alive_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time of the newest single GET that showed it alive",
        ),
        sa.Column(
            "gone_from",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time of the oldest evidence that it is gone",
        ),
        sa.Column(
            "gone_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time of the newest evidence that it is gone",
        ),
        sa.Column(
            "deleted_said",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="The newest deletion time that the vendor itself named",
        ),
        sa.Column(
            "until",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Newest upper end of an interval observation: what lies before it may be disputed",
        ),
        sa.Column(
            "core_status",
            sa.Text(),
            nullable=True,
            comment="The core's own status where the visible one differs (a tombstone hides it)",
        ),
        sa.Column(
            "exceptions",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Fields not known as of their group's time: name to [time in µs, rank], or null where never known",
        ),
        sa.PrimaryKeyConstraint("model_id", name=op.f("model_clocks_pkey")),
        schema="headshotpro",
        comment="The times as of which each model is known, apart from what people read; one narrow row a model",
        postgresql_with={"fillfactor": "60"},
    )
    op.create_index(
        op.f("model_clocks_detail_at_idx"), "model_clocks", ["detail_at"], unique=False, schema="headshotpro"
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Text(), nullable=False, comment="The vendor's id of the model: a 24-digit hex ObjectId"),
        sa.Column("uid", sa.Text(), nullable=True, comment="The vendor's anonymous id of the person"),
        sa.Column(
            "email",
            sa.Text(),
            nullable=True,
            comment="The person's e-mail address; null until a list page or a single GET showed it",
        ),
        sa.Column("title", sa.Text(), nullable=True, comment="The model's title, mostly the person's name"),
        sa.Column(
            "status",
            sa.Text(),
            nullable=True,
            comment="onboarding, waiting, pending, generatingHeadshots, active, failed or deleted; a status that the vendor adds later is stored as it was sent; null only where no observation named one",
        ),
        sa.Column("team_id", sa.Text(), nullable=True, comment="The vendor's id of the person's team"),
        sa.Column("team_name", sa.Text(), nullable=True, comment="The team's name"),
        sa.Column("is_development", sa.Boolean(), nullable=True, comment="True for a model of the vendor's test mode"),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When the model was created, by the vendor",
        ),
        sa.Column(
            "finished_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When its headshots were ready, by the vendor",
        ),
        sa.Column(
            "deleted_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When it was deleted, by the vendor where it said so, else the first evidence; null while it lives",
        ),
        sa.Column(
            "trigger", sa.Text(), nullable=True, comment="The chosen gender, `male` or `female`; only webhooks tell it"
        ),
        sa.Column(
            "invite_expires_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When the person's invitation expires; only webhooks tell it",
        ),
        sa.Column("organization_id", sa.Text(), nullable=True, comment="The organization's id as webhooks name it"),
        sa.Column(
            "photo_count",
            sa.Integer(),
            nullable=True,
            comment="How many photos it has; null: not read yet (only a single GET tells)",
        ),
        sa.Column(
            "favorite_photo_id",
            sa.Text(),
            nullable=True,
            comment="The photo that the person chose; null: none, or not read yet",
        ),
        sa.Column(
            "observed_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="Upstream time of the newest observation that changed this row",
        ),
        sa.Column(
            "updated_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="Our time of the last write of this row",
        ),
        sa.Column(
            "erased_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When the personal data of this tombstone was erased",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("models_pkey")),
        schema="headshotpro",
        comment="One row for each model ever seen; a deleted one stays, with status `deleted` and deleted_at set",
    )
    op.create_index(op.f("models_created_at_idx"), "models", ["created_at"], unique=False, schema="headshotpro")
    op.create_index(op.f("models_email_idx"), "models", ["email"], unique=False, schema="headshotpro")
    op.create_index(
        op.f("models_status_created_at_idx"), "models", ["status", "created_at"], unique=False, schema="headshotpro"
    )
    op.create_index(op.f("models_team_id_idx"), "models", ["team_id"], unique=False, schema="headshotpro")
    op.create_table(
        "organization",
        sa.Column("uid", sa.Text(), nullable=False, comment="The uid that the vendor gives the API key's organization"),
        sa.Column("name", sa.Text(), nullable=True, comment="Its name"),
        sa.Column("recorded_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When it was first seen"),
        sa.PrimaryKeyConstraint("uid", name=op.f("organization_pkey")),
        schema="headshotpro",
        comment="The organization that this database mirrors: one row; a key of another one holds every pull",
    )
    op.create_table(
        "pulls",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the pull"),
        sa.Column("kind", sa.Text(), nullable=False, comment="full (every model) or hot (statuses that still change)"),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            comment="running, complete, held (a person decides about its suspects) or failed",
        ),
        sa.Column(
            "started_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="When it started; the next one is due an interval later",
        ),
        sa.Column(
            "finished_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When it ended; null while it runs",
        ),
        sa.Column(
            "requests",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Upstream requests it took, deletion checks included",
        ),
        sa.Column("pages", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Pages it read"),
        sa.Column("models_seen", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Models it met"),
        sa.Column(
            "inserted",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Models it was the first to see",
        ),
        sa.Column("changed", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Models it changed"),
        sa.Column(
            "tombstoned", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Models it found deleted"
        ),
        sa.Column(
            "missed_webhooks",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Changes it found whose webhook had not come five minutes later",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="Why it failed or is held"),
        sa.Column(
            "began_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time of its first page: what was read since is no older than what it shows",
        ),
        sa.Column(
            "webhooks_checked_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When missed_webhooks was counted, five minutes or more after its end",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pulls_pkey")),
        schema="headshotpro",
        comment="One row for each reading of the vendor's list",
    )
    op.create_index(
        op.f("pulls_kind_started_at_idx"), "pulls", ["kind", "started_at"], unique=False, schema="headshotpro"
    )
    op.create_index(
        "pulls_unchecked_idx",
        "pulls",
        ["finished_at"],
        unique=False,
        schema="headshotpro",
        postgresql_where=sa.text("webhooks_checked_at IS NULL"),
    )
    op.create_table(
        "webhook_events",
        sa.Column(
            "id", sa.Text(), nullable=False, comment="The event's id; `sha256:` and a digest where the vendor sent none"
        ),
        sa.Column(
            "event", sa.Text(), nullable=False, comment="What happened, in the vendor's words, such as model.deleted"
        ),
        sa.Column("model_id", sa.Text(), nullable=True, comment="The model it concerns; null where it concerns none"),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            comment="applied, stale (older than what was known), ignored (no model) or dead (could not be applied)",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="Why it is dead"),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment="The body as it was sent"),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When it happened, by the vendor; null where it did not say",
        ),
        sa.Column(
            "received_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When the endpoint took it"
        ),
        sa.Column("processed_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="When it was applied"),
        sa.Column(
            "deliveries",
            sa.Integer(),
            server_default=sa.text("1"),
            nullable=False,
            comment="How often it was delivered",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_events_pkey")),
        schema="headshotpro",
        comment="One row for each webhook event that was processed",
    )
    op.create_index(
        "webhook_events_dead_idx",
        "webhook_events",
        ["received_at"],
        unique=False,
        schema="headshotpro",
        postgresql_where=sa.text("status = 'dead'"),
    )
    op.create_index(
        op.f("webhook_events_model_id_received_at_idx"),
        "webhook_events",
        ["model_id", "received_at"],
        unique=False,
        schema="headshotpro",
    )
    op.create_index(
        op.f("webhook_events_received_at_idx"), "webhook_events", ["received_at"], unique=False, schema="headshotpro"
    )
    op.create_table(
        "wishes",
        sa.Column("model_id", sa.Text(), nullable=False, comment="The model to be read by a single GET"),
        sa.Column(
            "after",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Only a GET sent after this upstream time answers; null: any GET does",
        ),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=False,
            comment="Why it was asked first: profile, details, dispute, stale_delivery",
        ),
        sa.Column(
            "due_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="Our time from which it may be asked"
        ),
        sa.Column(
            "missing_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Upstream time of a 404 that a full pull has still to confirm",
        ),
        sa.Column(
            "attempts",
            sa.SmallInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="GETs that did not answer it",
        ),
        sa.Column("pull_id", sa.BigInteger(), nullable=True, comment="The pull that asked it, if one did"),
        sa.PrimaryKeyConstraint("model_id", name=op.f("wishes_pkey")),
        schema="headshotpro",
        comment="Questions that only a single GET answers; a row goes when it is answered",
    )
    op.create_index(op.f("wishes_due_at_idx"), "wishes", ["due_at"], unique=False, schema="headshotpro")
    op.create_table(
        "held_suspects",
        sa.Column("pull_id", sa.BigInteger(), nullable=False, comment="The pull that was held because of it"),
        sa.Column("model_id", sa.Text(), nullable=False, comment="A live model that the pull did not show"),
        sa.Column(
            "left_alone_until",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Until then no pull decides it; null while a person has not decided about the pull",
        ),
        sa.ForeignKeyConstraint(
            ["pull_id"], ["headshotpro.pulls.id"], name=op.f("held_suspects_pull_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pull_id", "model_id", name=op.f("held_suspects_pkey")),
        schema="headshotpro",
        comment="Suspects that a person decides about, with `pulls release` or `pulls reject`",
    )
    op.create_index(
        op.f("held_suspects_model_id_idx"), "held_suspects", ["model_id"], unique=False, schema="headshotpro"
    )
    op.create_table(
        "pull_checkpoints",
        sa.Column("pull_id", sa.BigInteger(), nullable=False, comment="The running pull"),
        sa.Column("kind", sa.Text(), nullable=False, comment="One row for each kind: at most one pull of a kind runs"),
        sa.Column("holder", sa.Text(), nullable=False, comment="The process that has the lease"),
        sa.Column(
            "leased_until",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="When the lease ends unless a page renews it",
        ),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="Where the walk stands"),
        sa.ForeignKeyConstraint(
            ["pull_id"], ["headshotpro.pulls.id"], name=op.f("pull_checkpoints_pull_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pull_id", name=op.f("pull_checkpoints_pkey")),
        sa.UniqueConstraint("kind"),
        schema="headshotpro",
        comment="Where each running pull stands, and who runs it",
    )
    op.execute(MODEL_AS_OF)
    op.execute(COMMENT_ON_MODEL_AS_OF)

"""the first release's schema.

Revision ID: 0001_first
Revises:

The comments are for people who write queries and dashboards. What later code needs besides comes in a revision of its own.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001_first"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "headshotpro"


def upgrade() -> None:
    _models()
    _model_clocks()
    _model_changes()
    _webhook_events()
    _event_spool()
    _pulls()
    _pull_checkpoints()
    _held_suspects()
    _set_aside()
    _organization()
    _refetch_requests()
    _alerts()
    _alert_evaluator()
    _notifications()
    _receivers()
    _notification_deliveries()
    _idempotency_keys()
    _processes()
    op.execute("INSERT INTO headshotpro.alert_evaluator (id) VALUES (1)")
    for name, (query, comment, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW headshotpro.{name} AS {query}")
        op.execute(f"COMMENT ON VIEW headshotpro.{name} IS {_quoted(comment)}")
        for column, meaning in columns.items():
            op.execute(f"COMMENT ON COLUMN headshotpro.{name}.{column} IS {_quoted(meaning)}")
    op.execute(COMMENT_LIVE_MODELS)
    op.execute(MODEL_AS_OF)
    op.execute(COMMENT_ON_MODEL_AS_OF)


def _text(name: str, comment: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, comment=comment, **options)


def _time(name: str, comment: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), comment=comment, **options)


def _count(name: str, comment: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"), comment=comment)


def _number(name: str, comment: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, sa.Identity(always=True), primary_key=True, comment=comment)


def _index(
    name: str,
    table: str,
    *columns: Any,
    unique: bool = False,
    include: tuple[str, ...] = (),
    where: str | None = None,
) -> None:
    options = {"postgresql_include": include, "postgresql_where": sa.text(where) if where else None}
    op.create_index(name, table, columns, unique=unique, schema=SCHEMA, **options)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _models() -> None:
    op.create_table(
        "models",
        _text("id", "The vendor's id of the model: a 24-digit hex ObjectId", primary_key=True),
        _text("uid", "The vendor's anonymous id of the person"),
        _text("email", "The person's e-mail address; null until a list page or a single GET showed it"),
        _text("title", "The model's title, mostly the person's name"),
        _text(
            "status",
            "onboarding, waiting, pending, generatingHeadshots, active, failed or deleted; a status that the vendor adds later is stored as it was sent; null only where no observation named one",
        ),
        _text("team_id", "The vendor's id of the person's team"),
        _text("team_name", "The team's name"),
        sa.Column("is_development", sa.Boolean, comment="True for a model of the vendor's test mode"),
        sa.Column(
            "photo_count", sa.Integer, comment="How many photos it has; null: not read yet (only a single GET shows it)"
        ),
        _text("favorite_photo_id", "The photo that the person chose; null: none, or not read yet"),
        _time("created_at", "When the model was created, by the vendor"),
        _time("finished_at", "When its headshots were ready, by the vendor"),
        _text("trigger", "The chosen gender, `male` or `female`; only webhooks carry it"),
        _time("invite_expires_at", "When the person's invitation expires; only webhooks carry it"),
        _text("organization_id", "The organization's id as webhooks name it"),
        _time(
            "deleted_at",
            "When it was deleted, by the vendor where it said so, else the first evidence; null while it lives",
        ),
        _time("observed_at", "Upstream time of the newest observation that changed this row", nullable=False),
        _time("updated_at", "Our time of the last write of this row", nullable=False),
        _time("erased_at", "When the personal data of this tombstone was erased"),
        schema=SCHEMA,
        comment="One row for each model ever seen; a deleted one stays, with status `deleted` and deleted_at set",
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.01", "autovacuum_vacuum_insert_scale_factor": "0.01"},
    )
    _index("models_page_idx", "models", "created_at", "id", include=("status",))
    _index("models_status_page_idx", "models", "status", "created_at", "id")
    _index("models_team_page_idx", "models", "team_id", "created_at", "id", include=("status",))
    _index("models_email_idx", "models", "email")
    _index("models_to_erase_idx", "models", "deleted_at", where="status = 'deleted' AND erased_at IS NULL")
    _index(
        "models_created_day_idx",
        "models",
        sa.text("((created_at AT TIME ZONE 'UTC'::text)::date)"),
        "team_id",
        include=("created_at",),
    )
    _index(
        "models_finished_day_idx",
        "models",
        sa.text("((finished_at AT TIME ZONE 'UTC'::text)::date)"),
        "team_id",
        include=("finished_at",),
    )
    _index(
        "models_deleted_day_idx",
        "models",
        sa.text("((deleted_at AT TIME ZONE 'UTC'::text)::date)"),
        "team_id",
        include=("deleted_at",),
    )
    _index("models_unfinished_idx", "models", "id", include=("team_id",), where="finished_at IS NULL")


def _model_clocks() -> None:
    op.create_table(
        "model_clocks",
        _text("model_id", "The model", primary_key=True),
        _time("core_at", "Upstream time as of which status, title, finished, uid, created, development are known"),
        _time("invitation_at", "Upstream time as of which trigger, invite expiry and organization are known"),
        _time(
            "profile_at", "Upstream time as of which email and team are known: the newest API response that showed it"
        ),
        _time("detail_at", "Upstream time as of which photo count and favourite are known"),
        _time("alive_at", "Upstream time of the newest single GET that showed it alive"),
        _time("deletion_evidence_from", "Upstream time of the oldest evidence that it is deleted"),
        _time("deletion_evidence_at", "Upstream time of the newest evidence that it is deleted"),
        _time("deleted_at_upstream", "The newest deletion time that the vendor named"),
        _time("observed_until", "Newest upper end of an observation's interval; what is older may be disputed"),
        _text("core_status", "Status of the core where models.status differs: a tombstone hides it"),
        sa.Column(
            "exceptions",
            postgresql.JSONB,
            comment="Fields not known as of their group's time: name to [time in µs, rank], or null where never known",
        ),
        _time("shown_at", "Upstream time of the newest list page that showed it; shown_digest is of that page"),
        sa.Column(
            "shown_digest",
            sa.BigInteger,
            comment="Digest of what that page showed; while core_at and profile_at equal shown_at, it is what is known",
        ),
        schema=SCHEMA,
        comment="The clocks of each model: times as of which its fields are known; one narrow row for each model",
        postgresql_with={"fillfactor": "60"},
    )
    _index("model_clocks_detail_at_idx", "model_clocks", "detail_at")


def _model_changes() -> None:
    op.create_table(
        "model_changes",
        _number("id", "Assigned in commit order: a reader that polls for greater ids misses none"),
        _text("model_id", "The model that changed", nullable=False),
        _text("from_status", "Status before; null in a model's first row and where the status did not change"),
        _text("to_status", "Status after; null where it did not change"),
        sa.Column("changed", postgresql.JSONB, nullable=False, comment="Each changed column: its name to [old, new]"),
        _text("source", "webhook, pull, refetch, api or erase", nullable=False),
        _text("event_id", "The webhook event that reported it"),
        sa.Column("pull_id", sa.BigInteger, comment="The pull that found it"),
        _time("observed_at", "Upstream time as of which it is true", nullable=False),
        _time("recorded_at", "Our time of the write", nullable=False),
        schema=SCHEMA,
        comment="The change feed: one row for each change of a model, written in the change's own transaction; append-only",
    )
    _index("model_changes_model_id_id_idx", "model_changes", "model_id", "id")
    _index("model_changes_recorded_at_idx", "model_changes", "recorded_at")
    _index("model_changes_pull_id_idx", "model_changes", "pull_id", where="pull_id IS NOT NULL")
    _index(
        "model_changes_to_status_observed_at_idx",
        "model_changes",
        "to_status",
        "observed_at",
        where="to_status IS NOT NULL",
    )
    _index(
        "model_changes_outcome_day_idx",
        "model_changes",
        "to_status",
        sa.text("((observed_at AT TIME ZONE 'UTC'::text)::date)"),
        "model_id",
        include=("observed_at",),
        where="to_status IN ('active', 'failed')",
    )
    _index(
        "model_changes_failures_idx",
        "model_changes",
        "model_id",
        "id",
        include=("observed_at", "from_status"),
        where="to_status = 'failed'",
    )
    _index("model_changes_entered_idx", "model_changes", "observed_at", where="to_status IS NOT NULL")


def _webhook_events() -> None:
    op.create_table(
        "webhook_events",
        _text("id", "The event's id; `sha256:` and a digest where the vendor sent none", primary_key=True),
        _text("event", "The vendor's name of what happened, such as model.deleted", nullable=False),
        _text("model_id", "The model it is about; null where it is about none"),
        _text(
            "status",
            "applied, stale (older than what was known), ignored (about no model) or dead (could not be applied)",
            nullable=False,
        ),
        _text("error", "Why it is dead"),
        sa.Column("payload", postgresql.JSONB, comment="The body as it was sent, without login links"),
        _time("created_at", "When it happened, by the vendor; null where the body has no time"),
        _time("received_at", "When the webhook endpoint received it", nullable=False),
        _time("signed_at", "Signed timestamp of its first delivery: it did not happen later"),
        _time("processed_at", "When it was applied", nullable=False),
        sa.Column(
            "deliveries",
            sa.Integer,
            nullable=False,
            server_default=sa.text("1"),
            comment="How many times it was delivered",
        ),
        sa.Column(
            "delivery_ids",
            postgresql.ARRAY(sa.Text),
            comment="Our ids of its first deliveries, so that one that is read twice counts once",
        ),
        schema=SCHEMA,
        comment="One row for each webhook event that was processed",
    )
    _index("webhook_events_model_id_received_at_idx", "webhook_events", "model_id", "received_at")
    _index("webhook_events_received_at_idx", "webhook_events", "received_at")
    _index("webhook_events_dead_idx", "webhook_events", "received_at", where="status = 'dead'")


def _event_spool() -> None:
    op.create_table(
        "event_spool",
        _number("id", "Order of arrival"),
        sa.Column("body", postgresql.BYTEA, nullable=False, comment="The delivery's body, without login links"),
        sa.Column("signed_at", sa.BigInteger, nullable=False, comment="Its signed timestamp, Unix seconds"),
        _time("received_at", "When the webhook endpoint received it", nullable=False),
        _text("delivery_id", "Our id of the delivery: Redis may hold it too"),
        _text("event_id", "The event's id; null where it has to be read from the body"),
        schema=SCHEMA,
        comment="The spool: deliveries that wait in Postgres because Redis could not take them",
    )


def _pulls() -> None:
    op.create_table(
        "pulls",
        _number("id", "Number of the pull"),
        _text("kind", "full (every model) or hot (statuses that still change)", nullable=False),
        _text("status", "running, complete, held (a person decides about its suspects) or failed", nullable=False),
        _time("started_at", "When it started; the next one is due an interval later", nullable=False),
        _time("finished_at", "When it ended; null while it runs"),
        _count("requests", "Upstream requests it took, deletion checks included"),
        _count("pages", "Pages it read"),
        _count("models_seen", "Models it read"),
        _count("inserted", "Models that were unknown before it"),
        _count("changed", "Models it changed"),
        _count("tombstoned", "Models it found deleted"),
        _count("missed_webhooks", "Changes it found whose webhook had not arrived within five minutes"),
        _count("set_aside", "Records and fields it could not read; table set_aside lists them"),
        sa.Column(
            "postponed",
            postgresql.ARRAY(sa.Text),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="Suspects whose GET failed three times: the next full pull decides about them",
        ),
        _text("error", "Why it failed or is held"),
        _time("upstream_started_at", "Upstream time of its first page; all that it read is at least as new"),
        _time("webhooks_checked_at", "When missed_webhooks was counted, at least five minutes after its end"),
        schema=SCHEMA,
        comment="One row for each pull: one reading of the vendor's list",
    )
    _index("pulls_kind_started_at_idx", "pulls", "kind", "started_at")
    _index("pulls_complete_idx", "pulls", "finished_at", where="kind = 'full' AND status = 'complete'")
    _index("pulls_held_idx", "pulls", "id", where="status = 'held'")
    _index("pulls_unchecked_idx", "pulls", "finished_at", where="webhooks_checked_at IS NULL")


def _pull_checkpoints() -> None:
    op.create_table(
        "pull_checkpoints",
        sa.Column(
            "pull_id",
            sa.BigInteger,
            sa.ForeignKey("headshotpro.pulls.id", ondelete="CASCADE"),
            primary_key=True,
            comment="The running pull",
        ),
        _text(
            "kind",
            "full or hot; one row for each kind, as at most one pull of a kind runs",
            nullable=False,
            unique=True,
        ),
        _text("holder", "The process that has the lease", nullable=False),
        _time("leased_until", "When the lease ends; each page renews it", nullable=False),
        sa.Column("state", postgresql.JSONB, nullable=False, comment="What the walk has read so far"),
        schema=SCHEMA,
        comment="How far each running pull is, and the process that runs it",
    )


def _held_suspects() -> None:
    op.create_table(
        "held_suspects",
        sa.Column(
            "pull_id",
            sa.BigInteger,
            sa.ForeignKey("headshotpro.pulls.id", ondelete="CASCADE"),
            primary_key=True,
            comment="The pull that was held because of it",
        ),
        _text("model_id", "A live model that the pull did not show", primary_key=True),
        _time("kept_until", "Until then no pull deletes it; null while no person has decided about the pull"),
        schema=SCHEMA,
        comment="Suspects that a person decides about, with `pulls release` or `pulls reject`",
    )
    _index("held_suspects_model_id_idx", "held_suspects", "model_id")


def _set_aside() -> None:
    op.create_table(
        "set_aside",
        _number("id", "Order in which they were found"),
        _time("found_at", "When it was first found", nullable=False),
        sa.Column("pull_id", sa.BigInteger, comment="The pull that found it; null for a GET or event"),
        _text("model_id", "The model it is about; null where the id is unreadable"),
        sa.Column(
            "fields",
            postgresql.ARRAY(sa.Text),
            nullable=False,
            comment="Names of the fields that were treated as absent; empty where the whole record was",
        ),
        _text("reason", "Why they could not be used; it holds no values", nullable=False),
        _time("resolved_at", "When a complete pull read the model again; null while it is open"),
        sa.Column("last_pull_id", sa.BigInteger, comment="The newest pull that found it again"),
        schema=SCHEMA,
        comment="What a pull, GET or event could not use; one open row for each model, fields and reason",
    )
    _index(
        "set_aside_open_idx",
        "set_aside",
        sa.text("coalesce(model_id, '')"),
        "fields",
        "reason",
        unique=True,
        where="resolved_at IS NULL",
    )


def _organization() -> None:
    op.create_table(
        "organization",
        _text("uid", "The uid that the vendor gives the API key's organization", primary_key=True),
        _text("name", "Its name"),
        _time("recorded_at", "When it was first recorded", nullable=False),
        schema=SCHEMA,
        comment="The organization that this database mirrors: one row; an API key of another one holds every pull",
    )


def _refetch_requests() -> None:
    op.create_table(
        "refetch_requests",
        _text("model_id", "The model to be read by a single GET", primary_key=True),
        _time("after", "The GET must be sent after this upstream time; null: any GET will do"),
        _text("reason", "Why first: profile, dispute, dead_event, stale_delivery, left_hot or missing", nullable=False),
        _time("due_at", "Our time from which it may be sent", nullable=False),
        _time("missing_at", "Upstream time of a 404 that a full pull has yet to confirm"),
        sa.Column(
            "attempts",
            sa.SmallInteger,
            nullable=False,
            server_default=sa.text("0"),
            comment="GETs that were sent and did not settle it",
        ),
        sa.Column("pull_id", sa.BigInteger, comment="The pull that requested it; null where none did"),
        schema=SCHEMA,
        comment="Models that a single GET has to read; a row is deleted when its GET has come back",
    )
    _index("refetch_requests_due_at_idx", "refetch_requests", "due_at")


def _alerts() -> None:
    op.create_table(
        "alerts",
        _number("id", "Number of the alert"),
        _text("kind", "The condition, such as model_failed, pull_stale or worker_missing", nullable=False),
        _text("model_id", "The model it is about; null where it is about the mirror"),
        _time("opened_at", "When the condition was found", nullable=False),
        _time("resolved_at", "When the condition had ended; null while it is open"),
        _time("acknowledged_at", "When a person acknowledged it: no reminder of it is sent after that"),
        sa.Column(
            "detail",
            postgresql.JSONB,
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="What was found when it opened",
        ),
        _time("last_notified_at", "When a notification of it, or a reminder, was last given to the receivers"),
        schema=SCHEMA,
        comment="Conditions that need a person; at most one open row for each kind and model",
    )
    _index(
        "alerts_open_idx", "alerts", "kind", sa.text("coalesce(model_id, '')"), unique=True, where="resolved_at IS NULL"
    )
    _index("alerts_opened_at_idx", "alerts", "opened_at")


def _alert_evaluator() -> None:
    op.create_table(
        "alert_evaluator",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
        _time("observing_since", "Since when the mirror observes the upstream; older conditions open no alert"),
        _time("first_pull_finished_at", "End of the first complete full pull: what it did not show happened after it"),
        _time("first_summary_at", "When the one summary of older conditions was written"),
        _time("key_refused_at", "When the upstream last refused the API key"),
        sa.Column("key_refused_status", sa.SmallInteger, comment="HTTP status of that refusal"),
        _time("key_accepted_at", "When the upstream accepted the API key again"),
        _time("clock_skewed_at", "When a response of the upstream last had a Date that was not believed"),
        sa.Column(
            "clock_skew_seconds", sa.Float, comment="Seconds by which it was ahead of our clock then; negative: behind"
        ),
        _time("clock_agreed_at", "When the upstream's clock agreed with ours again"),
        schema=SCHEMA,
        comment="State of the alert evaluator: one row",
    )


def _notifications() -> None:
    op.create_table(
        "notifications",
        _number("id", "Order in which they were written"),
        _text(
            "reason",
            "opened, resolved, reminder or first_summary (conditions older than the mirror's first observation)",
            nullable=False,
        ),
        sa.Column(
            "alert_id",
            sa.BigInteger,
            sa.ForeignKey("headshotpro.alerts.id", ondelete="CASCADE"),
            comment="The alert; null for the first summary",
        ),
        _time("created_at", "When it was written, in the transaction of the change it reports", nullable=False),
        _time("released_at", "When it was given to the receivers, with all others that waited; null until then"),
        sa.Column("detail", postgresql.JSONB, comment="Of the first summary: counts and the first ids"),
        schema=SCHEMA,
        comment="Messages about alerts; ids alone, never names",
    )
    _index("notifications_waiting_idx", "notifications", "created_at", where="released_at IS NULL")
    _index("notifications_alert_id_idx", "notifications", "alert_id")


def _receivers() -> None:
    op.create_table(
        "receivers",
        _text("digest", "Digest of its URL in ALERT_URLS; the URL holds secrets and is not stored", primary_key=True),
        sa.Column("is_configured", sa.Boolean, nullable=False, comment="Whether ALERT_URLS names it now"),
        _time("retry_at", "When it may be tried next; later while a process sends to it", nullable=False),
        _count("failures", "Attempts that failed since the last one that succeeded"),
        _text("error", "Why the last attempt failed; null where it succeeded"),
        schema=SCHEMA,
        comment="Where notifications are sent: one row for each URL of ALERT_URLS",
    )


def _notification_deliveries() -> None:
    op.create_table(
        "notification_deliveries",
        sa.Column(
            "receiver",
            sa.Text,
            sa.ForeignKey("headshotpro.receivers.digest", ondelete="CASCADE"),
            primary_key=True,
            comment="The receiver's digest",
        ),
        sa.Column(
            "notification_id",
            sa.BigInteger,
            sa.ForeignKey("headshotpro.notifications.id", ondelete="CASCADE"),
            primary_key=True,
            comment="The notification",
        ),
        _time("sent_at", "When the receiver took it; null while it is still to be sent"),
        schema=SCHEMA,
        comment="The outbox: one row for each notification and receiver",
    )
    _index("notification_deliveries_unsent_idx", "notification_deliveries", "receiver", where="sent_at IS NULL")
    _index("notification_deliveries_notification_id_idx", "notification_deliveries", "notification_id")


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        _text("scope", "SHA-256 of the client's key in MIRROR_API_KEYS, in hex", primary_key=True),
        _text("key", "The client's Idempotency-Key", primary_key=True),
        _text("fingerprint", "SHA-256 of the request, in hex", nullable=False),
        _text("holder", "The request that works on it, or worked on it last", nullable=False),
        _time("claimed_at", "When the key was first used", nullable=False),
        _time("leased_until", "Until then no other request may work on it", nullable=False),
        sa.Column(
            "attempts",
            sa.SmallInteger,
            nullable=False,
            comment="How often the create was begun; beyond 1, an earlier one may have succeeded",
        ),
        _text("model_id", "The model that was created; null while it is not known"),
        _text("status", "The status with which it was created"),
        schema=SCHEMA,
        comment="Creates through the API with an Idempotency-Key; kept for 24 hours",
    )
    _index("idempotency_keys_claimed_at_idx", "idempotency_keys", "claimed_at")


def _processes() -> None:
    op.create_table(
        "processes",
        _text("name", "Its host, process number and a random part: unique", primary_key=True),
        _text("kind", "web, worker or clock", nullable=False),
        _text("host", "Name of the machine it runs on", nullable=False),
        _text("version", "Version of headshot-mirror that it runs", nullable=False),
        _time("started_at", "When it started", nullable=False),
        _time("seen_at", "When its last heartbeat arrived, by Postgres' clock", nullable=False),
        schema=SCHEMA,
        comment="Processes that run now: each sends a heartbeat every five seconds and removes its row when it stops",
    )


# Each view with its comment and those of its columns.
VIEWS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mirror_status": (
        """
        SELECT
            (
                SELECT coalesce(jsonb_object_agg(named.status, named.models), '{}') FROM (
                    SELECT coalesce(counted.status, 'unknown') AS status, sum(counted.models)::bigint AS models
                    -- Grouped by the bare column first: an index can give its order without reading a row.
                    FROM (SELECT m.status, count(*) AS models FROM headshotpro.models AS m GROUP BY 1) AS counted
                    GROUP BY 1
                ) AS named
            ) AS models,
            (SELECT max(received_at) FROM headshotpro.webhook_events) AS newest_event_at,
            pull.last_complete_pull_at,
            extract(epoch FROM now() - pull.last_complete_pull_at)::float8 AS pull_age_seconds,
            (SELECT count(*) FROM headshotpro.event_spool) AS spooled_events,
            (SELECT count(*) FROM headshotpro.alerts WHERE resolved_at IS NULL) AS open_alerts,
            (SELECT min(id) FROM headshotpro.model_changes) AS oldest_change_id
        FROM (
            SELECT max(finished_at) AS last_complete_pull_at FROM headshotpro.pulls
            WHERE kind = 'full' AND status = 'complete'
        ) AS pull
        """,
        "How fresh and complete the mirror is: one row",
        {
            "models": "How many models are in each status; one without a status counts as unknown",
            "newest_event_at": "When the newest of the events that are kept was received",
            "last_complete_pull_at": "When the last complete full pull ended; null before the first one",
            "pull_age_seconds": "Seconds since then; null before the first one",
            "spooled_events": "Deliveries that wait in Postgres because Redis could not take them",
            "open_alerts": "Alerts that are not resolved",
            "oldest_change_id": "The oldest row of model_changes that is still kept: a reader whose last id is smaller has missed rows",
        },
    ),
    "live_models": (
        "SELECT * FROM headshotpro.models WHERE status IS DISTINCT FROM 'deleted'",
        "The models that are not deleted, with all columns of models",
        {},
    ),
    "failed_models": (
        """
        SELECT m.id, m.title, m.team_name,
            coalesce(failures.failed_since, m.observed_at) AS failed_since,
            greatest(failures.times_failed, 1) AS times_failed,
            failures.last_good_status
        FROM headshotpro.models AS m
        CROSS JOIN LATERAL (
            SELECT count(*) AS times_failed, max(c.observed_at) AS failed_since,
                (array_agg(c.from_status ORDER BY c.id DESC))[1] AS last_good_status
            FROM headshotpro.model_changes AS c WHERE c.model_id = m.id AND c.to_status = 'failed'
        ) AS failures
        WHERE m.status = 'failed'
        """,
        "Models that are failed now; the vendor restarts them by itself",
        {
            "id": "The model",
            "title": "The model's title, mostly the person's name",
            "team_name": "The team's name",
            "failed_since": "Upstream time of its newest failure, or when it was first seen, if it was failed then",
            "times_failed": "How often it has failed, as far back as model_changes is kept",
            "last_good_status": "The status before its newest failure; null if it was failed when first seen",
        },
    ),
    "status_durations": (
        """
        SELECT c.model_id, c.to_status AS status, c.observed_at AS entered_at, next.left_at,
            extract(epoch FROM next.left_at - c.observed_at)::float8 AS seconds
        FROM headshotpro.model_changes AS c
        LEFT JOIN LATERAL (
            SELECT greatest(n.observed_at, c.observed_at) AS left_at FROM headshotpro.model_changes AS n
            WHERE n.model_id = c.model_id AND n.id > c.id AND n.to_status IS NOT NULL ORDER BY n.id LIMIT 1
        ) AS next ON true
        WHERE c.to_status IS NOT NULL
        """,
        "How long each model was in each status. Filter by model_id or by a range of entered_at",
        {
            "model_id": "The model",
            "status": "The status it was in",
            "entered_at": "Upstream time at which it entered it; for a model's first row: when it was first seen",
            "left_at": "Upstream time at which it left it; null while it is in it",
            "seconds": "How many seconds that was; null while it is in it",
        },
    ),
    "daily_outcomes": (
        """
        SELECT day, team_id,
            count(*) FILTER (WHERE outcome = 'created') AS created,
            count(*) FILTER (WHERE outcome = 'active') AS active,
            count(*) FILTER (WHERE outcome = 'failed') AS failed,
            count(*) FILTER (WHERE outcome = 'deleted') AS deleted
        FROM (
            SELECT (created_at AT TIME ZONE 'UTC')::date AS day, team_id, 'created' AS outcome
            FROM headshotpro.models WHERE created_at IS NOT NULL
            UNION ALL
            SELECT (first.observed_at AT TIME ZONE 'UTC')::date, m.team_id, 'created'
            FROM headshotpro.models AS m CROSS JOIN LATERAL (
                SELECT c.observed_at FROM headshotpro.model_changes AS c
                WHERE c.model_id = m.id ORDER BY c.id LIMIT 1
            ) AS first
            WHERE m.created_at IS NULL
            UNION ALL
            SELECT (finished_at AT TIME ZONE 'UTC')::date, team_id, 'active'
            FROM headshotpro.models WHERE finished_at IS NOT NULL
            UNION ALL
            SELECT became.day, m.team_id, 'active'
            FROM (
                SELECT DISTINCT (observed_at AT TIME ZONE 'UTC')::date AS day, model_id
                FROM headshotpro.model_changes WHERE to_status = 'active'
            ) AS became
            JOIN headshotpro.models AS m ON m.id = became.model_id AND m.finished_at IS NULL
            UNION ALL
            -- No join: for some thousand failures the planner would else read every model.
            SELECT became.day, (SELECT m.team_id FROM headshotpro.models AS m WHERE m.id = became.model_id), 'failed'
            FROM (
                SELECT DISTINCT (observed_at AT TIME ZONE 'UTC')::date AS day, model_id
                FROM headshotpro.model_changes WHERE to_status = 'failed'
            ) AS became
            UNION ALL
            SELECT (deleted_at AT TIME ZONE 'UTC')::date, team_id, 'deleted'
            FROM headshotpro.models WHERE deleted_at IS NOT NULL
        ) AS outcomes
        GROUP BY day, team_id
        """,
        "Outcomes of models by day and by the team they are in now. Filter by a range of days",
        {
            "day": "The day, in UTC",
            "team_id": "The vendor's id of the team; null for models whose team is not known",
            "created": "Models created on that day, or first seen on it where the vendor named no time",
            "active": "Models whose headshots were ready on that day, whatever their status is now",
            "failed": "Models that failed on that day, each once, as far back as model_changes is kept",
            "deleted": "Models that were deleted on that day",
        },
    ),
}

# A view does not take over the comments of its table's columns.
COMMENT_LIVE_MODELS = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT attname, col_description(attrelid, attnum) AS words FROM pg_attribute
        WHERE attrelid = 'headshotpro.models'::regclass AND attnum > 0 AND NOT attisdropped
    LOOP
        EXECUTE format('COMMENT ON COLUMN headshotpro.live_models.%I IS %L', found.attname, found.words);
    END LOOP;
END
$$
"""

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
        -- Its first row, which comes from no status, is later: it did not exist yet.
        AND NOT EXISTS (
            SELECT FROM oldest WHERE oldest.recorded_at > $2 AND oldest.changed -> 'status' -> 0 = 'null'::jsonb
        )
        AND (newest.recorded_at IS NOT NULL OR EXISTS (SELECT FROM later) OR m.updated_at <= $2)
$$
"""
COMMENT_ON_MODEL_AS_OF = """
COMMENT ON FUNCTION headshotpro.model_as_of(text, timestamptz) IS
    'The row of a model as it was in the mirror at a time, from model_changes; no row where it did not exist yet'
"""

"""The tables of schema `headshotpro`, with the comments that dashboard users read.

The migrations make them; `make check` fails where the two disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, TIMESTAMP

if TYPE_CHECKING:
    from sqlalchemy import TextClause

SCHEMA = "headshotpro"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
    },
)


def _time(name: str, comment: str, **options: Any) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), comment=comment, **options)


def _text(name: str, comment: str, **options: Any) -> Column[Any]:
    return Column(name, Text, comment=comment, **options)


def _count(name: str, comment: str) -> Column[Any]:
    return Column(name, Integer, nullable=False, server_default=text("0"), comment=comment)


models = Table(
    "models",
    metadata,
    _text("id", "The vendor's id of the model: a 24-digit hex ObjectId", primary_key=True),
    _text("uid", "The vendor's anonymous id of the person"),
    _text("email", "The person's e-mail address; null until a list page or a single GET showed it"),
    _text("title", "The model's title, mostly the person's name"),
    _text(
        "status",
        "onboarding, waiting, pending, generatingHeadshots, active, failed or deleted; a status that the vendor "
        "adds later is stored as it was sent; null only where no observation named one",
    ),
    _text("team_id", "The vendor's id of the person's team"),
    _text("team_name", "The team's name"),
    Column("is_development", Boolean, comment="True for a model of the vendor's test mode"),
    _time("created_at", "When the model was created, by the vendor"),
    _time("finished_at", "When its headshots were ready, by the vendor"),
    _time(
        "deleted_at",
        "When it was deleted, by the vendor where it said so, else the first evidence; null while it lives",
    ),
    _text("trigger", "The chosen gender, `male` or `female`; only webhooks tell it"),
    _time("invite_expires_at", "When the person's invitation expires; only webhooks tell it"),
    _text("organization_id", "The organization's id as webhooks name it"),
    Column("photo_count", Integer, comment="How many photos it has; null: not read yet (only a single GET tells)"),
    _text("favorite_photo_id", "The photo that the person chose; null: none, or not read yet"),
    _time("observed_at", "Upstream time of the newest observation that changed this row", nullable=False),
    _time("updated_at", "Our time of the last write of this row", nullable=False),
    _time("erased_at", "When the personal data of this tombstone was erased"),
    comment="One row for each model ever seen; a deleted one stays, with status `deleted` and deleted_at set",
    # Pages deep in the list are read from an index alone, as far as vacuum has been over the rows behind it.
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.01", "autovacuum_vacuum_insert_scale_factor": "0.01"},
)
Index(None, models.c.status, models.c.created_at)
Index(None, models.c.created_at)
Index(None, models.c.team_id)
# In the order of the API's pages, with what a page passes over: deep in the list, no row is touched.
Index("models_page_idx", models.c.created_at, models.c.id, postgresql_include=["status"])
Index("models_status_page_idx", models.c.status, models.c.created_at, models.c.id)
Index("models_team_page_idx", models.c.team_id, models.c.created_at, models.c.id, postgresql_include=["status"])
Index(None, models.c.email)
Index(
    "models_to_erase_idx",
    models.c.deleted_at,
    postgresql_where=text("status = 'deleted' AND erased_at IS NULL"),
)


def _utc_day(column: str) -> TextClause:
    """The day of a time, as the views ask for it."""
    return text(f"(({column} AT TIME ZONE 'UTC'::text)::date)")


# With the time itself included, a view can count by days without reading the rows.
for _name in ("created_at", "finished_at", "deleted_at"):
    Index(
        f"models_{_name.removesuffix('_at')}_day_idx",
        _utc_day(_name),
        models.c.team_id,
        postgresql_include=[_name],
    )
Index(
    "models_unfinished_idx",
    models.c.id,
    postgresql_include=["team_id"],
    postgresql_where=models.c.finished_at.is_(None),
)

model_clocks = Table(
    "model_clocks",
    metadata,
    _text("model_id", "The model", primary_key=True),
    _time("core_at", "Upstream time as of which status, title, finished, uid, created, development are known"),
    _time("invitation_at", "Upstream time as of which trigger, invite expiry and organization are known"),
    _time("profile_at", "Upstream time as of which email and team are known: the newest API answer that showed it"),
    _time("detail_at", "Upstream time as of which photo count and favourite are known"),
    _time("alive_at", "Upstream time of the newest single GET that showed it alive"),
    _time("gone_from", "Upstream time of the oldest evidence that it is gone"),
    _time("gone_at", "Upstream time of the newest evidence that it is gone"),
    _time("deleted_said", "The newest deletion time that the vendor itself named"),
    _time("until", "Newest upper end of an interval observation: what lies before it may be disputed"),
    _text("core_status", "The core's own status where the visible one differs (a tombstone hides it)"),
    Column(
        "exceptions",
        JSONB,
        comment="Fields not known as of their group's time: name to [time in µs, rank], or null where never known",
    ),
    _time("shown_at", "Upstream time of the newest list page that told what shown_mark stands for"),
    Column(
        "shown_mark",
        BigInteger,
        comment="Digest of what that page told; where core_at and profile_at are still shown_at, it is what is known",
    ),
    comment="The times as of which each model is known, apart from what people read; one narrow row a model",
    postgresql_with={"fillfactor": "60"},
)
Index(None, model_clocks.c.detail_at)

model_changes = Table(
    "model_changes",
    metadata,
    Column(
        "id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="Given out in commit order: a reader who polls for greater ids misses none",
    ),
    _text("model_id", "The model that changed", nullable=False),
    _text("from_status", "Status before; null in a model's first row and where the status did not change"),
    _text("to_status", "Status after; null where it did not change"),
    Column("changed", JSONB, nullable=False, comment="Each changed column, to [old, new]"),
    _text("source", "webhook, pull, refetch, api or erase", nullable=False),
    _text("event_id", "The webhook event that told it"),
    Column("pull_id", BigInteger, comment="The pull that told it"),
    _time("observed_at", "Upstream time as of which it is true", nullable=False),
    _time("recorded_at", "Our time of the write", nullable=False),
    comment="Append-only: a row for each change of a model, written in the change's own transaction",
)
Index(None, model_changes.c.model_id, model_changes.c.id)
Index(None, model_changes.c.recorded_at)
Index("model_changes_pull_id_idx", model_changes.c.pull_id, postgresql_where=model_changes.c.pull_id.is_not(None))
Index(
    "model_changes_to_status_observed_at_idx",
    model_changes.c.to_status,
    model_changes.c.observed_at,
    postgresql_where=model_changes.c.to_status.is_not(None),
)
Index(
    "model_changes_outcome_day_idx",
    model_changes.c.to_status,
    _utc_day("observed_at"),
    model_changes.c.model_id,
    postgresql_include=["observed_at"],
    postgresql_where=model_changes.c.to_status.in_(["active", "failed"]),
)
Index(
    "model_changes_failures_idx",
    model_changes.c.model_id,
    model_changes.c.id,
    postgresql_include=["observed_at", "from_status"],
    postgresql_where=model_changes.c.to_status == "failed",
)
Index(
    "model_changes_entered_idx",
    model_changes.c.observed_at,
    postgresql_where=model_changes.c.to_status.is_not(None),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    _text("id", "The event's id; `sha256:` and a digest where the vendor sent none", primary_key=True),
    _text("event", "What happened, in the vendor's words, such as model.deleted", nullable=False),
    _text("model_id", "The model it concerns; null where it concerns none"),
    _text(
        "status",
        "applied, stale (older than what was known), ignored (no model) or dead (could not be applied)",
        nullable=False,
    ),
    _text("error", "Why it is dead"),
    Column("payload", JSONB, comment="The body as it was sent, without login links"),
    _time("created_at", "When it happened, by the vendor; null where it did not say"),
    _time("received_at", "When the endpoint took it", nullable=False),
    _time("signed_at", "The signed timestamp of its first delivery: it did not happen later"),
    _time("processed_at", "When it was applied", nullable=False),
    Column("deliveries", Integer, nullable=False, server_default=text("1"), comment="How often it was delivered"),
    Column(
        "delivery_ids", ARRAY(Text), comment="The endpoint's ids of its first deliveries: one read twice counts once"
    ),
    comment="One row for each webhook event that was processed",
)
Index(None, webhook_events.c.model_id, webhook_events.c.received_at)
Index(None, webhook_events.c.received_at)
Index(
    "webhook_events_dead_idx",
    webhook_events.c.received_at,
    postgresql_where=webhook_events.c.status == "dead",
)

pulls = Table(
    "pulls",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the pull"),
    _text("kind", "full (every model) or hot (statuses that still change)", nullable=False),
    _text("status", "running, complete, held (a person decides about its suspects) or failed", nullable=False),
    _time("started_at", "When it started; the next one is due an interval later", nullable=False),
    _time("finished_at", "When it ended; null while it runs"),
    _count("requests", "Upstream requests it took, deletion checks included"),
    _count("pages", "Pages it read"),
    _count("models_seen", "Models it met"),
    _count("inserted", "Models it was the first to see"),
    _count("changed", "Models it changed"),
    _count("tombstoned", "Models it found deleted"),
    _count("missed_webhooks", "Changes it found whose webhook had not come five minutes later"),
    _count("set_aside", "Records and fields that it could not read; table set_aside lists them"),
    Column(
        "postponed",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{}'"),
        comment="Suspects whose GET failed three times: the next full pull decides about them",
    ),
    _text("error", "Why it failed or is held"),
    _time("began_at", "Upstream time of its first page: what was read since is no older than what it shows"),
    _time("webhooks_checked_at", "When missed_webhooks was counted, five minutes or more after its end"),
    comment="One row for each reading of the vendor's list",
)
Index(None, pulls.c.kind, pulls.c.started_at)
Index(
    "pulls_complete_idx",
    pulls.c.finished_at,
    postgresql_where=text("kind = 'full' AND status = 'complete'"),
)
Index("pulls_held_idx", pulls.c.id, postgresql_where=pulls.c.status == "held")
Index("pulls_unchecked_idx", pulls.c.finished_at, postgresql_where=pulls.c.webhooks_checked_at.is_(None))

set_aside = Table(
    "set_aside",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order in which they were found"),
    _time("found_at", "When it was found first", nullable=False),
    Column("pull_id", BigInteger, comment="The pull that found it; null for a GET or event"),
    _text("model_id", "The model it is about; null where the id is unreadable"),
    Column(
        "fields",
        ARRAY(Text),
        nullable=False,
        comment="Names of the fields that were treated as absent; empty where the whole record was",
    ),
    _text("reason", "Why they could not be used; it holds no values", nullable=False),
    _time("resolved_at", "When a complete pull read the model again; null while it is open"),
    Column("last_pull_id", BigInteger, comment="The newest pull that met it"),
    comment="What a pull, GET or event could not use; one open row for each model, fields and reason",
)
Index(
    "set_aside_open_idx",
    text("coalesce(model_id, '')"),
    set_aside.c.fields,
    set_aside.c.reason,
    unique=True,
    postgresql_where=set_aside.c.resolved_at.is_(None),
)

pull_checkpoints = Table(
    "pull_checkpoints",
    metadata,
    Column(
        "pull_id", BigInteger, ForeignKey(pulls.c.id, ondelete="CASCADE"), primary_key=True, comment="The running pull"
    ),
    _text("kind", "One row for each kind: at most one pull of a kind runs", nullable=False, unique=True),
    _text("holder", "The process that has the lease", nullable=False),
    _time("leased_until", "When the lease ends unless a page renews it", nullable=False),
    Column("state", JSONB, nullable=False, comment="Where the walk stands"),
    comment="Where each running pull stands, and who runs it",
)

held_suspects = Table(
    "held_suspects",
    metadata,
    Column(
        "pull_id",
        BigInteger,
        ForeignKey(pulls.c.id, ondelete="CASCADE"),
        primary_key=True,
        comment="The pull that was held because of it",
    ),
    _text("model_id", "A live model that the pull did not show", primary_key=True),
    _time("left_alone_until", "Until then no pull decides it; null while a person has not decided about the pull"),
    comment="Suspects that a person decides about, with `pulls release` or `pulls reject`",
)
Index(None, held_suspects.c.model_id)

organization = Table(
    "organization",
    metadata,
    _text("uid", "The uid that the vendor gives the API key's organization", primary_key=True),
    _text("name", "Its name"),
    _time("recorded_at", "When it was first seen", nullable=False),
    comment="The organization that this database mirrors: one row; a key of another one holds every pull",
)

wishes = Table(
    "wishes",
    metadata,
    _text("model_id", "The model to be read by a single GET", primary_key=True),
    _time("after", "Only a GET sent after this upstream time answers; null: any GET does"),
    _text("reason", "Why it was asked first: profile, details, dispute, stale_delivery", nullable=False),
    _time("due_at", "Our time from which it may be asked", nullable=False),
    _time("missing_at", "Upstream time of a 404 that a full pull has still to confirm"),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0"), comment="GETs that did not answer it"),
    Column("pull_id", BigInteger, comment="The pull that asked it, if one did"),
    comment="Questions that only a single GET answers; a row goes when it is answered",
)
Index(None, wishes.c.due_at)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _text("scope", "SHA-256 of the API key of ours that the caller has, in hex", primary_key=True),
    _text("key", "The caller's Idempotency-Key", primary_key=True),
    _text("fingerprint", "SHA-256 of what was asked for, in hex", nullable=False),
    _text("holder", "The request that works on it, or did last", nullable=False),
    _time("claimed_at", "When the key first came", nullable=False),
    _time("leased_until", "Until then nobody else may work on it", nullable=False),
    Column(
        "tries",
        SmallInteger,
        nullable=False,
        comment="How often the create was begun; from the second on, an earlier one may have happened",
    ),
    _text("model_id", "The model that was created; null while that is not known"),
    _text("status", "The status with which it was created"),
    comment="Creates that came through our API with an Idempotency-Key; kept for 24 hours",
)
Index(None, idempotency_keys.c.claimed_at)

event_spool = Table(
    "event_spool",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order of arrival"),
    Column("body", BYTEA, nullable=False, comment="The delivery's body, without login links"),
    Column("signed_at", BigInteger, nullable=False, comment="Its signed timestamp, Unix seconds"),
    _time("received_at", "When the endpoint took it", nullable=False),
    _text("delivery_id", "The endpoint's id of it: Redis may hold it too"),
    _text("event_id", "The id of its event; null where an older web process took it: it is found in the body then"),
    comment="Deliveries taken while Redis could not take them",
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the alert"),
    _text(
        "kind",
        "model_failed, model_stuck, pull_stale, webhooks_missing, events_dead, tombstones_held or api_rejected",
        nullable=False,
    ),
    _text("model_id", "The model it is about; null where it is about the mirror"),
    _time("opened_at", "When its cause was seen", nullable=False),
    _time("resolved_at", "When its cause ended; null while it is open"),
    _time("acknowledged_at", "When a person took note"),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'"), comment="What was seen"),
    _time("last_notice_at", "When a notice of it, or a reminder, was last handed out"),
    comment="What people are woken by; at most one open row for each kind and model",
)
Index(
    "alerts_open_idx",
    alerts.c.kind,
    text("coalesce(model_id, '')"),
    unique=True,
    postgresql_where=alerts.c.resolved_at.is_(None),
)
Index(None, alerts.c.opened_at)

alert_watch = Table(
    "alert_watch",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
    _time("looking_since", "Since when the mirror looks at the vendor; what happened before is the past"),
    _time("past_until", "End of the first complete full pull: whatever it did not show is news"),
    _time("past_summed_at", "When the one notice about the past was written"),
    _time("key_refused_at", "When the vendor last refused the API key"),
    Column("key_refused_status", SmallInteger, comment="With which HTTP status"),
    _time("key_accepted_at", "When the vendor took the key again"),
    _time("clock_skewed_at", "When a response of the upstream last had a Date that was not believed"),
    Column("clock_skew_seconds", Float, comment="How far it was ahead of our clock then; negative: behind"),
    _time("clock_agreed_at", "When the upstream's clock agreed with ours again"),
    comment="What the watch for alerts remembers; one row",
)

notices = Table(
    "notices",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order in which they were made"),
    _text("what", "opened, resolved, reminder or past (what was failed before the mirror looked)", nullable=False),
    Column("alert_id", BigInteger, ForeignKey(alerts.c.id, ondelete="CASCADE"), comment="The alert; null: the past"),
    _time("made_at", "When it was written, in the transaction of what it tells", nullable=False),
    _time("released_at", "When it was handed out to the receivers, together with all others of its time"),
    Column("detail", JSONB, comment="Of the past: counts and the first ids"),
    comment="What people have to be told; ids alone, never names",
)
Index("notices_waiting_idx", notices.c.made_at, postgresql_where=notices.c.released_at.is_(None))
Index(None, notices.c.alert_id)

receivers = Table(
    "receivers",
    metadata,
    _text("digest", "A digest of its URL in ALERT_URLS, which holds secrets and is never stored", primary_key=True),
    Column("is_set", Boolean, nullable=False, comment="Whether ALERT_URLS names it now"),
    _time("retry_at", "When it may be tried next; a process that has it in hand sets it ahead", nullable=False),
    _count("failures", "How often in a row it took nothing"),
    _text("error", "What came back last, where it took nothing"),
    comment="Who is told of alerts",
)

notice_deliveries = Table(
    "notice_deliveries",
    metadata,
    Column(
        "receiver", Text, ForeignKey(receivers.c.digest, ondelete="CASCADE"), primary_key=True, comment="Who is told"
    ),
    Column("notice_id", BigInteger, ForeignKey(notices.c.id, ondelete="CASCADE"), primary_key=True, comment="Of what"),
    _time("sent_at", "When the receiver took it; null: it is still to be sent"),
    comment="The outbox: each notice for each receiver",
)
Index(
    "notice_deliveries_unsent_idx", notice_deliveries.c.receiver, postgresql_where=notice_deliveries.c.sent_at.is_(None)
)
Index(None, notice_deliveries.c.notice_id)

processes = Table(
    "processes",
    metadata,
    _text("name", "Host, process number and a random part: unique", primary_key=True),
    _text("kind", "web, worker or clock", nullable=False),
    _text("host", "Name of the machine it runs on", nullable=False),
    _text("version", "Version of headshot-mirror that it runs", nullable=False),
    _time("started_at", "When it started", nullable=False),
    _time("seen_at", "When its last heartbeat arrived, by Postgres' clock", nullable=False),
    comment="Processes that run now: each sends a heartbeat every five seconds and removes its row when it stops",
)

"""Pulls, their checkpoints and suspects, what could not be read, and what is to be read again."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.storage.tables.columns import (
    count_column,
    filled_column,
    metadata,
    parent_column,
    text_column,
    time_column,
)

pulls = Table(
    "pulls",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the pull"),
    text_column("kind", "full (every model) or hot (statuses that still change)", nullable=False),
    text_column("status", "running, complete, held (a person decides about its suspects) or failed", nullable=False),
    time_column("started_at", "When it started; the next one is due an interval later", nullable=False),
    time_column("finished_at", "When it ended; null while it runs"),
    count_column("requests", "Upstream requests it took, deletion checks included"),
    count_column("pages", "Pages it read"),
    count_column("models_seen", "Models it read"),
    count_column("inserted", "Models that were unknown before it"),
    count_column("changed", "Models it changed"),
    count_column("tombstoned", "Models it found deleted"),
    count_column("missed_webhooks", "Changes it found whose webhook was late or lost"),
    count_column("late_webhooks", "Changes it found whose webhook was not there after five minutes, but after 90"),
    count_column("lost_webhooks", "Changes it found whose webhook was not there after 90 minutes"),
    count_column(
        "rows_compared", "Rows of the mirror that it compared with the upstream; 0 before the first complete full pull"
    ),
    count_column("rows_differed", "Those of them that differed"),
    count_column("set_aside", "Records and fields it could not read; table set_aside lists them"),
    filled_column(
        "postponed", ARRAY(Text), "'{}'", "Suspects whose GET failed three times: the next full pull decides about them"
    ),
    text_column("error", "Why it failed or is held"),
    time_column("upstream_started_at", "Upstream time of its first page; all that it read is at least as new"),
    time_column("webhooks_checked_at", "When missed_webhooks was counted, at least five minutes after its end"),
    comment="One row for each pull: one reading of the vendor's list",
)
Index(None, pulls.c.kind, pulls.c.started_at)
Index(
    "pulls_complete_idx",
    pulls.c.finished_at,
    postgresql_where=text("kind = 'full' AND status = 'complete'"),
)
Index("pulls_held_idx", pulls.c.id, postgresql_where=pulls.c.status == "held")
Index("pulls_unchecked_idx", pulls.c.finished_at, postgresql_where=pulls.c.webhooks_checked_at.is_(None))

pull_checkpoints = Table(
    "pull_checkpoints",
    metadata,
    parent_column("pull_id", pulls.c.id, "The running pull", primary_key=True),
    text_column(
        "kind", "full or hot; one row for each kind, as at most one pull of a kind runs", nullable=False, unique=True
    ),
    text_column("holder", "The process that has the lease", nullable=False),
    time_column("leased_until", "When the lease ends; each page renews it", nullable=False),
    Column("state", JSONB, nullable=False, comment="What the walk has read so far"),
    comment="How far each running pull is, and the process that runs it",
)

held_suspects = Table(
    "held_suspects",
    metadata,
    parent_column("pull_id", pulls.c.id, "The pull that was held because of it", primary_key=True),
    text_column("model_id", "A live model that the pull did not show", primary_key=True),
    time_column("kept_until", "Until then no pull deletes it; null while no person has decided about the pull"),
    comment="Suspects that a person decides about, with `pulls release` or `pulls reject`",
)
Index(None, held_suspects.c.model_id)

set_aside = Table(
    "set_aside",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order in which they were found"),
    time_column("found_at", "When it was first found", nullable=False),
    Column("pull_id", BigInteger, comment="The pull that found it; null for a GET or event"),
    text_column("model_id", "The model it is about; null where the id is unreadable"),
    Column(
        "fields",
        ARRAY(Text),
        nullable=False,
        comment="Names of the fields that were treated as absent; empty where the whole record was",
    ),
    text_column("reason", "Why they could not be used; it holds no values", nullable=False),
    time_column("resolved_at", "When a complete pull read the model again; null while it is open"),
    Column("last_pull_id", BigInteger, comment="The newest pull that found it again"),
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

organization = Table(
    "organization",
    metadata,
    text_column("uid", "The uid that the vendor gives the API key's organization", primary_key=True),
    text_column("name", "Its name"),
    time_column("recorded_at", "When it was first recorded", nullable=False),
    comment="The organization that this database mirrors: one row; an API key of another one holds every pull",
)

refetch_requests = Table(
    "refetch_requests",
    metadata,
    text_column("model_id", "The model to be read by a single GET", primary_key=True),
    time_column("after", "The GET must be sent after this upstream time; null: any GET will do"),
    text_column(
        "reason", "Why first: profile, dispute, dead_event, stale_delivery, left_hot or missing", nullable=False
    ),
    time_column("due_at", "Our time from which it may be sent", nullable=False),
    time_column("missing_at", "Upstream time of a 404 that a full pull has yet to confirm"),
    filled_column("attempts", SmallInteger, "0", "GETs that were sent and did not settle it"),
    Column("pull_id", BigInteger, comment="The pull that requested it; null where none did"),
    comment="Models that a single GET has to read; a row is deleted when its GET has come back",
)
Index(None, refetch_requests.c.due_at)

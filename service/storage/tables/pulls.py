"""Readings of the list, where each one is, and what it left to be decided or read again."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from service.storage.tables.columns import count_column, metadata, text_column, time_column

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
    count_column("models_seen", "Models it met"),
    count_column("inserted", "Models it was the first to see"),
    count_column("changed", "Models it changed"),
    count_column("tombstoned", "Models it found deleted"),
    count_column("missed_webhooks", "Changes it found whose webhook had not come five minutes later"),
    count_column("set_aside", "Records and fields that it could not read; table set_aside lists them"),
    Column(
        "postponed",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{}'"),
        comment="Suspects whose GET failed three times: the next full pull decides about them",
    ),
    text_column("error", "Why it failed or is held"),
    time_column("began_at", "Upstream time of its first page: what was read since is no older than what it shows"),
    time_column("webhooks_checked_at", "When missed_webhooks was counted, five minutes or more after its end"),
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

pull_checkpoints = Table(
    "pull_checkpoints",
    metadata,
    Column(
        "pull_id", BigInteger, ForeignKey(pulls.c.id, ondelete="CASCADE"), primary_key=True, comment="The running pull"
    ),
    text_column("kind", "One row for each kind: at most one pull of a kind runs", nullable=False, unique=True),
    text_column("holder", "The process that has the lease", nullable=False),
    time_column("leased_until", "When the lease ends unless a page renews it", nullable=False),
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
    text_column("model_id", "A live model that the pull did not show", primary_key=True),
    time_column(
        "left_alone_until", "Until then no pull decides it; null while a person has not decided about the pull"
    ),
    comment="Suspects that a person decides about, with `pulls release` or `pulls reject`",
)
Index(None, held_suspects.c.model_id)

set_aside = Table(
    "set_aside",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order in which they were found"),
    time_column("found_at", "When it was found first", nullable=False),
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

organization = Table(
    "organization",
    metadata,
    text_column("uid", "The uid that the vendor gives the API key's organization", primary_key=True),
    text_column("name", "Its name"),
    time_column("recorded_at", "When it was first seen", nullable=False),
    comment="The organization that this database mirrors: one row; a key of another one holds every pull",
)

wishes = Table(
    "wishes",
    metadata,
    text_column("model_id", "The model to be read by a single GET", primary_key=True),
    time_column("after", "Only a GET sent after this upstream time answers; null: any GET does"),
    text_column("reason", "Why it was asked first: profile, details, dispute, stale_delivery", nullable=False),
    time_column("due_at", "Our time from which it may be asked", nullable=False),
    time_column("missing_at", "Upstream time of a 404 that a full pull has still to confirm"),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0"), comment="GETs that did not answer it"),
    Column("pull_id", BigInteger, comment="The pull that asked it, if one did"),
    comment="Questions that only a single GET answers; a row goes when it is answered",
)
Index(None, wishes.c.due_at)

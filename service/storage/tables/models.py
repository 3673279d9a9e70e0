"""The mirror, the clocks of its rows, their changes, and the outcomes that are folded out of these.

Why: `docs/decisions/0005-clocks-in-a-table-of-their-own.md`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Date, Identity, Index, Integer, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from service.model_fields import FIELDS, Kind
from service.storage.tables.columns import metadata, text_column, time_column

_FIELD_TYPES: dict[Kind, Any] = {
    Kind.TEXT: Text,
    Kind.ID: Text,
    Kind.WORD: Text,
    Kind.FLAG: Boolean,
    Kind.COUNT: Integer,
    Kind.TIME: TIMESTAMP(timezone=True),
}

models = Table(
    "models",
    metadata,
    text_column("id", "The vendor's id of the model: a 24-digit hex ObjectId", primary_key=True),
    *(Column(field.column, _FIELD_TYPES[field.kind], comment=field.comment) for field in FIELDS),
    time_column(
        "deleted_at",
        "When it was deleted, by the vendor where it said so, else the first evidence; null while it lives",
    ),
    time_column("observed_at", "Upstream time of the newest observation that changed this row", nullable=False),
    time_column("updated_at", "Our time of the last write of this row", nullable=False),
    time_column("erased_at", "When the personal data of this tombstone was erased"),
    comment="One row for each model ever seen; a deleted one stays, with status `deleted` and deleted_at set",
    # Pages deep in the list are read from an index alone, as far as vacuum has been over the rows behind it.
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.01", "autovacuum_vacuum_insert_scale_factor": "0.01"},
)
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
# By the day as dashboards ask for it. With the time itself included, they count by days without reading the rows.
_FINISHED_DAY = text("((finished_at AT TIME ZONE 'UTC'::text)::date)")
Index("models_finished_day_idx", _FINISHED_DAY, models.c.team_id, postgresql_include=["finished_at"])

model_clocks = Table(
    "model_clocks",
    metadata,
    text_column("model_id", "The model", primary_key=True),
    time_column("core_at", "Upstream time as of which status, title, finished, uid, created, development are known"),
    time_column("invitation_at", "Upstream time as of which trigger, invite expiry and organization are known"),
    time_column(
        "profile_at", "Upstream time as of which email and team are known: the newest API response that showed it"
    ),
    time_column("detail_at", "Upstream time as of which photo count and favourite are known"),
    time_column("alive_at", "Upstream time of the newest single GET that showed it alive"),
    time_column("deletion_evidence_from", "Upstream time of the oldest evidence that it is deleted"),
    time_column("deletion_evidence_at", "Upstream time of the newest evidence that it is deleted"),
    time_column("deleted_at_upstream", "The newest deletion time that the vendor named"),
    time_column("observed_until", "Newest upper end of an observation's interval; what is older may be disputed"),
    text_column("core_status", "Status of the core where models.status differs: a tombstone hides it"),
    Column(
        "exceptions",
        JSONB,
        comment="Fields not known as of their group's time: name to [time in µs, rank], or null where never known",
    ),
    time_column("shown_at", "No longer used"),
    Column(
        "shown_digest",
        BigInteger,
        comment="Digest of what is known of the list's fields, where one time holds for all; a page may confirm it",
    ),
    time_column("foreign_write_at", "No longer used"),
    comment="The clocks of each model: times as of which its fields are known; one narrow row for each model",
    # A pull moves each clock: a second version of each row fits beside it, and no index changes.
    postgresql_with={"fillfactor": "45"},
)
Index(None, model_clocks.c.detail_at)

foreign_writes = Table(
    "foreign_writes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the row"),
    text_column("model_id", "The model whose row another program wrote", nullable=False),
    time_column("written_at", "When it did", nullable=False, server_default=text("now()")),
    comment="Rows of models that another program wrote, until they are compared with the upstream",
)
Index(None, foreign_writes.c.model_id)

model_changes = Table(
    "model_changes",
    metadata,
    Column(
        "id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="Assigned in commit order: a reader that polls for greater ids misses none",
    ),
    text_column("model_id", "The model that changed", nullable=False),
    text_column("from_status", "Status before; null in a model's first row and where the status did not change"),
    text_column("to_status", "Status after; null where it did not change"),
    Column("changed", JSONB, nullable=False, comment="Each changed column: its name to [old, new]"),
    text_column("source", "webhook, pull, refetch, api or erase", nullable=False),
    text_column("event_id", "The webhook event that reported it"),
    Column("pull_id", BigInteger, comment="The pull that found it"),
    time_column("observed_at", "Upstream time as of which it is true", nullable=False),
    time_column("recorded_at", "Our time of the write", nullable=False),
    comment="The change feed: one row for each change of a model, written in the change's own transaction; append-only",
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

outcome_counts = Table(
    "outcome_counts",
    metadata,
    Column("day", Date, nullable=False, comment="The day, in UTC"),
    text_column("team_id", "The vendor's id of the team; null where it is not known"),
    Column("created", Integer, nullable=False, comment="How many models were created"),
    Column("active", Integer, nullable=False, comment="How many became ready"),
    Column("failed", Integer, nullable=False, comment="How many failed"),
    Column("deleted", Integer, nullable=False, comment="How many were deleted"),
    comment="Outcomes of folded models by day and team; read the view daily_outcomes, which adds the other models",
)
Index(None, outcome_counts.c.day, outcome_counts.c.team_id)

model_outcomes = Table(
    "model_outcomes",
    metadata,
    text_column("model_id", "The model", primary_key=True),
    text_column("team_id", "The team it is counted in"),
    Column("created_on", Date, comment="The day on which it is counted as created"),
    Column("active_on", ARRAY(Date), nullable=False, comment="The days counted as ready"),
    Column("failed_on", ARRAY(Date), nullable=False, comment="The days counted as failed"),
    Column("deleted_on", Date, comment="The day on which it is counted as deleted"),
    comment="What outcome_counts holds of each model",
)

stale_outcomes = Table(
    "stale_outcomes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the row"),
    text_column("model_id", "The model", nullable=False),
    comment="Models that are to be folded although no newer change names them",
)

outcome_progress = Table(
    "outcome_progress",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
    Column("folded_to", BigInteger, nullable=False, comment="Changes up to this id are folded"),
    comment="How far outcomes are folded; locked by the one that folds",
)

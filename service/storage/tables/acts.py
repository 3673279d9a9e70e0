"""Acts of people and of API clients: the audit log, tasks, creates that may be repeated, the console's sessions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, SmallInteger, Table, text
from sqlalchemy.dialects.postgresql import JSONB

from service.storage.tables.columns import count_column, filled_column, metadata, text_column, time_column

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order of the acts"),
    time_column("at", "When the act began, by Postgres' clock", nullable=False),
    text_column(
        "actor", "Name of the console user, of the key in MIRROR_API_KEYS, or of the system user", nullable=False
    ),
    text_column("actor_kind", "console, api or command_line", nullable=False),
    text_column("address", "Address that the request came from; for a command the name of its machine"),
    text_column("action", "The act, such as model.delete", nullable=False),
    text_column("target", "Id or name of its object; null where it has none, or none yet"),
    text_column(
        "outcome",
        "begun, done, refused (by the upstream), failed, or unknown (no response from the upstream)",
        nullable=False,
    ),
    filled_column("detail", JSONB, "'{}'", "What else belongs to it; no personal data and no secrets"),
    comment="One row for each act by the console, the API or the command line; kept for 400 days",
)
Index(None, audit_log.c.at)

tasks = Table(
    "tasks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order of the tasks"),
    text_column("kind", "replay (of events), release (of a held pull) or erase (of a model)", nullable=False),
    text_column("status", "waiting (for another one of its kind), running, done, cancelled or failed", nullable=False),
    text_column("target", "Number of the pull that is released, or id of the model that is erased; null for a replay"),
    Column("search", JSONB, comment="Which events are replayed"),
    Column("state", JSONB, nullable=False, server_default=text("'{}'"), comment="Where the next slice goes on"),
    count_column("total", "How many events or suspects there were when it began"),
    count_column("done", "How many of them were handled"),
    count_column("failed", "How many of those could not be applied or decided"),
    Column("audit_id", BigInteger, nullable=False, comment="Its row in audit_log"),
    time_column("created_at", "When a person began it", nullable=False),
    time_column("moved_at", "When a worker last did a part of it; null before the first"),
    time_column("finished_at", "When it ended"),
    text_column("error", "Why it failed"),
    comment="Work of many transactions that an operator began in the console; kept as long as the audit log",
)
Index("tasks_running_idx", tasks.c.kind, unique=True, postgresql_where=tasks.c.status == "running")

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    text_column("scope", "SHA-256 of the client's key in MIRROR_API_KEYS, in hex", primary_key=True),
    text_column("key", "The client's Idempotency-Key", primary_key=True),
    text_column("fingerprint", "SHA-256 of the request, in hex", nullable=False),
    text_column("holder", "The request that works on it, or worked on it last", nullable=False),
    time_column("claimed_at", "When the key was first used", nullable=False),
    time_column("leased_until", "Until then no other request may work on it", nullable=False),
    Column(
        "attempts",
        SmallInteger,
        nullable=False,
        comment="How often the create was begun; beyond 1, an earlier one may have succeeded",
    ),
    text_column("model_id", "The model that was created; null while it is not known"),
    text_column("status", "The status with which it was created"),
    comment="Creates through the API with an Idempotency-Key; kept for 24 hours",
)
Index(None, idempotency_keys.c.claimed_at)

console_secret = Table(
    "console_secret",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="1: there is one row"),
    text_column("secret", "Random; it signs the console's sessions together with a password", nullable=False),
    time_column("created_at", "When a web process made it", nullable=False),
    comment="The secret of the console's sessions: without the row all of them end",
)

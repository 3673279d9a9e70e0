"""Work that operators begin in the console and workers do."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Table, text
from sqlalchemy.dialects.postgresql import JSONB

from service.storage.tables.columns import count_column, metadata, text_column, time_column

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

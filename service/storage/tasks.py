"""`tasks`: work of many transactions that operators begin in the console, and workers do in slices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

KINDS = REPLAY, RELEASE, ERASE = "replay", "release", "erase"
WAITING, RUNNING, DONE, CANCELLED, FAILED = "waiting", "running", "done", "cancelled", "failed"


def begin(
    connection: Connection,
    kind: str,
    audit_id: int,
    total: int,
    *,
    target: str | None = None,
    search: Mapping[str, Any] | None = None,
) -> int | None:
    """Begin a task, for any worker to do: its id; None while another one of its kind runs.

    An erasure is begun in any case: it waits for its turn. `audit_id` is the row in the audit log that the transaction
    has written, `target` the pull or model, `search` says which events.
    """
    status = WAITING if kind == ERASE else RUNNING
    values = {"kind": kind, "status": status, "audit_id": audit_id, "total": total, "target": target}
    document = None if search is None else json.dumps(search)
    statement = """
        INSERT INTO headshotpro.tasks (kind, status, target, search, total, audit_id, created_at)
        VALUES (:kind, :status, :target, CAST(:search AS jsonb), :total, :audit_id, now())
        ON CONFLICT (kind) WHERE status = 'running' DO NOTHING
        RETURNING id
    """
    found: int | None = queries.value(connection, statement, **values, search=document)
    return found


def one(connection: Connection, task_id: int) -> dict[str, Any] | None:
    """One task."""
    return queries.row(connection, "SELECT * FROM headshotpro.tasks WHERE id = :id", id=task_id)


def open_erasure(connection: Connection, model_id: str) -> int | None:
    """The task that erases a model, or waits for its turn to do so."""
    statement = (
        "SELECT min(id) FROM headshotpro.tasks "
        "WHERE kind = 'erase' AND target = :target AND status IN ('waiting', 'running')"
    )
    found: int | None = queries.value(connection, statement, target=model_id)
    return found


def start_waiting(connection: Connection) -> None:
    """Let the oldest task that waits run, where none of its kind does."""
    # Checked again after a wait for the row: a person may have cancelled it meanwhile.
    statement = """
        UPDATE headshotpro.tasks SET status = 'running' WHERE status = 'waiting' AND id IN (
            SELECT min(id) FROM headshotpro.tasks AS waiting WHERE status = 'waiting' AND NOT EXISTS (
                SELECT FROM headshotpro.tasks AS other WHERE other.kind = waiting.kind AND other.status = 'running'
            ) GROUP BY kind
        )
    """
    queries.run(connection, statement)


def list_running(connection: Connection) -> list[dict[str, Any]]:
    """The running tasks, one of each kind at most; the oldest first."""
    return queries.rows(connection, "SELECT * FROM headshotpro.tasks WHERE status = 'running' ORDER BY id")


def any_running(connection: Connection) -> bool:
    """Whether there is work for a worker of this release."""
    statement = (
        "SELECT EXISTS (SELECT FROM headshotpro.tasks WHERE status IN ('waiting', 'running') AND kind = ANY(:kinds))"
    )
    return bool(queries.value(connection, statement, kinds=list(KINDS)))


def advance(connection: Connection, task_id: int, state: Mapping[str, Any], *, done: int = 0, failed: int = 0) -> bool:
    """Write how far a task is; False where it does not run any more. Its counts are right all the same."""
    values = {"state": json.dumps(state), "done": done, "failed": failed}
    statement = """
        UPDATE headshotpro.tasks SET state = CAST(:state AS jsonb), moved_at = now(), done = done + :done,
            failed = failed + :failed
        WHERE id = :id RETURNING status
    """
    return bool(queries.value(connection, statement, id=task_id, **values) == RUNNING)


def count_failure(connection: Connection, task_id: int) -> int:
    """Count a slice that failed: how many did so in a row; `advance` forgets them."""
    statement = """
        UPDATE headshotpro.tasks SET state = state || jsonb_build_object(
            'failures', coalesce(CAST(state ->> 'failures' AS integer), 0) + 1
        ) WHERE id = :id RETURNING CAST(state ->> 'failures' AS integer)
    """
    return int(queries.value(connection, statement, id=task_id))


def end(connection: Connection, task_id: int, status: str, error: str | None = None) -> dict[str, Any] | None:
    """End a task that runs or waits: its row; None where it had ended already."""
    statement = (
        "UPDATE headshotpro.tasks SET status = :status, error = :error, finished_at = now() "
        "WHERE id = :id AND status IN ('waiting', 'running') RETURNING *"
    )
    return queries.row(connection, statement, id=task_id, status=status, error=error)

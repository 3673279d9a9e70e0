"""`pull_checkpoints`: which process runs a pull, under a lease, and where the pull is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.errors import LeaseLost
from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

LEASE_SECONDS = 15.0
# A pull that stood still for longer starts again: what it read is no longer one picture.
RESUMABLE_SECONDS = 300.0
# Whose lease it is while a pull rests after an error of the upstream, a lock or a slow statement.
NO_HOLDER = ""

COUNTERS = ("requests", "pages", "models_seen", "inserted", "changed", "tombstoned")


def claim(connection: Connection, kind: str, holder: str, interval: float) -> dict[str, Any] | None:
    """Take the lease of the running pull of a kind, or begin one.

    Steps: a checkpoint whose lease has ended is taken over, or, where it stood still too long, its pull is failed;
    without a checkpoint a pull begins if the last one started at least `interval` seconds ago; after one that failed, a
    fifth of that after its end.

    Returns:
        Its `pull_id`, and the `state` of its checkpoint, empty where it begins; None where another process is at it, or
        none is due.
    """
    # Two processes that both find no checkpoint take turns; the second one then finds the first one's.
    queries.run(connection, "SELECT pg_advisory_xact_lock(hashtext('headshotpro pull ' || :kind))", kind=kind)
    queries.run(connection, _FORGET_ABANDONED, kind=kind, resumable=RESUMABLE_SECONDS)
    queries.run(connection, _FAIL_ABANDONED, kind=kind)
    ours = {"kind": kind, "holder": holder, "lease": LEASE_SECONDS}
    return queries.row(connection, _TAKE_OVER, **ours) or queries.row(connection, _BEGIN, **ours, interval=interval)


def end_rest(connection: Connection, kind: str) -> None:
    """Let any process go on at once with a pull that rests; one that a process works on is left to it."""
    statement = (
        "UPDATE headshotpro.pull_checkpoints SET leased_until = now() WHERE kind = :kind AND holder = :no_holder"
    )
    queries.run(connection, statement, kind=kind, no_holder=NO_HOLDER)


_TAKE_OVER = """
    UPDATE headshotpro.pull_checkpoints
    SET holder = :holder, leased_until = now() + make_interval(secs => :lease)
    WHERE kind = :kind AND leased_until <= now()
    RETURNING pull_id, state
"""

# After a pull that failed the next one is due sooner, because the cause may be over. Otherwise pulls start up to five
# seconds late, at no multiple of the interval: what the upstream does every 15 minutes is seen at all its moments. The
# number of the last pull decides by how much, so that all processes agree.
_RECENT = """
    CASE status WHEN 'failed' THEN finished_at > now() - make_interval(secs => :interval / 5.0)
    ELSE started_at > now() - make_interval(
        secs => :interval + least(5.0, :interval * 0.02) * (hashint8(id) & 1023) / 1024.0
    ) END
"""
# The transaction waited for the lock of its kind: its own time may lie before the end of the last pull.
_BEGIN = f"""
    WITH begun AS (
        INSERT INTO headshotpro.pulls (kind, status, started_at)
        SELECT :kind, 'running', clock_timestamp()
        WHERE NOT EXISTS (
            SELECT FROM headshotpro.pulls
            WHERE kind = :kind AND (status = 'running' OR {_RECENT})
        )
        RETURNING id
    )
    INSERT INTO headshotpro.pull_checkpoints (pull_id, kind, holder, leased_until, state)
    SELECT id, :kind, :holder, now() + make_interval(secs => :lease), '{{}}' FROM begun
    ON CONFLICT (kind) DO NOTHING
    RETURNING pull_id, state
"""  # noqa: S608 - constant


_FORGET_ABANDONED = (
    "DELETE FROM headshotpro.pull_checkpoints "
    "WHERE kind = :kind AND leased_until < now() - make_interval(secs => :resumable)"
)
# The rows of `models` that a pull `p` compared. Before the first complete full pull there are none to compare. Models
# that it found deleted were no longer on any page, and were compared, too.
_ROWS_COMPARED = """
    CASE WHEN EXISTS (
        SELECT FROM headshotpro.pulls AS first
        WHERE first.kind = 'full' AND first.status = 'complete' AND first.finished_at <= p.started_at
    ) THEN p.models_seen + p.tombstoned ELSE 0 END
"""
# It repaired what it found, so no later pull can count that.
_FAIL_ABANDONED = f"""
    UPDATE headshotpro.pulls AS p SET status = 'failed', finished_at = now(),
        error = 'interrupted, and not taken up again in time', rows_compared = {_ROWS_COMPARED}
    WHERE kind = :kind AND status = 'running'
        AND NOT EXISTS (SELECT FROM headshotpro.pull_checkpoints AS c WHERE c.pull_id = p.id)
"""  # noqa: S608 - constant


def save_checkpoint(
    connection: Connection, pull_id: int, holder: str, state: Mapping[str, Any], counted: Mapping[str, int]
) -> None:
    """Save the state of a pull and renew its lease, in the transaction that merges its pages.

    Raises:
        LeaseLost: another process has taken over; the transaction must not commit.
    """
    values = {"id": pull_id, "holder": holder, "lease": LEASE_SECONDS, "state": json.dumps(state)}
    counts = {name: counted.get(name, 0) for name in COUNTERS}
    if queries.run(connection, _SAVE_CHECKPOINT, **values, **counts) == 0:
        raise LeaseLost(f"pull {pull_id} was taken over by another process")


_SAVE_CHECKPOINT = f"""
    WITH kept AS (
        UPDATE headshotpro.pull_checkpoints
        SET leased_until = now() + make_interval(secs => :lease), state = CAST(:state AS jsonb)
        WHERE pull_id = :id AND holder = :holder
        RETURNING pull_id
    )
    UPDATE headshotpro.pulls SET {", ".join(f"{name} = {name} + :{name}" for name in COUNTERS)}
    WHERE id IN (SELECT pull_id FROM kept)
"""  # noqa: S608 - names of our own columns


def suspend(connection: Connection, pull_id: int, seconds: float) -> None:
    """Give the lease back, in a transaction that has saved the checkpoint: so it is this process's.

    No process goes on before `seconds` are over, unless a person starts the pull.
    """
    statement = """
        UPDATE headshotpro.pull_checkpoints
        SET holder = :no_holder, leased_until = now() + make_interval(secs => :seconds) WHERE pull_id = :id
    """
    queries.run(connection, statement, id=pull_id, no_holder=NO_HOLDER, seconds=seconds)


def record_error(connection: Connection, pull_id: int, error: str | None) -> None:
    """Say in the row of a running pull why it rests, or that it goes on."""
    statement = "UPDATE headshotpro.pulls SET error = :error WHERE id = :id AND status = 'running'"
    queries.run(connection, statement, id=pull_id, error=error)


def finish(
    connection: Connection,
    pull_id: int,
    status: str,
    *,
    began_at: datetime | None,
    error: str | None,
    postponed: Sequence[str] = (),
) -> None:
    """End a pull, in a transaction that has saved its checkpoint: so the lease is this process's.

    `began_at` is the upstream time at which its first page was sent, `postponed` are suspects left to the next full
    pull.
    """
    queries.run(connection, "DELETE FROM headshotpro.pull_checkpoints WHERE pull_id = :id", id=pull_id)
    ended = {"status": status, "began_at": began_at, "error": error, "postponed": list(postponed)}
    queries.run(connection, _FINISH, id=pull_id, **ended)


_FINISH = f"""
    UPDATE headshotpro.pulls AS p SET status = :status, finished_at = now(), upstream_started_at = :began_at,
        error = :error, postponed = CAST(:postponed AS text[]),
        set_aside = (SELECT count(*) FROM headshotpro.set_aside WHERE last_pull_id >= :id),
        rows_differed = (SELECT count(*) FROM headshotpro.accuracy_checks WHERE pull_id = :id),
        rows_compared = {_ROWS_COMPARED}
    WHERE p.id = :id
"""  # noqa: S608 - constant


def due(connection: Connection, kind: str, interval: float) -> bool:
    """Whether a pull of a kind may begin or be taken up now."""
    statement = f"""
        SELECT CASE
            WHEN EXISTS (SELECT FROM headshotpro.pull_checkpoints WHERE kind = :kind)
            THEN EXISTS (SELECT FROM headshotpro.pull_checkpoints WHERE kind = :kind AND leased_until <= now())
            ELSE NOT EXISTS (
                SELECT FROM headshotpro.pulls
                WHERE kind = :kind AND {_RECENT}
            )
        END
    """  # noqa: S608 - constant
    return bool(queries.value(connection, statement, kind=kind, interval=interval))

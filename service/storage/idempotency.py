"""`idempotency_keys`: the creates of API clients, so that one that is sent again is done once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.storage import queries

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

RETENTION_HOURS = 24


class IdempotencyKey(NamedTuple):
    """Where a key belongs.

    `scope` is a digest of the caller's key of MIRROR_API_KEYS: callers cannot use each other's keys.
    """

    scope: str
    key: str


class IdempotencyClaim(NamedTuple):
    """The state of a key.

    Attributes:
        fingerprint: of the request that it first came with.
        claimed_at: when it first came, by Postgres' clock.
        attempts: how often its create was begun; from the second on, an earlier one may have happened.
        status: the model's status when it was created.
    """

    fingerprint: str
    holder: str
    claimed_at: datetime
    attempts: int
    model_id: str | None
    status: str | None


_COLUMNS = "fingerprint, holder, claimed_at, attempts, model_id, status"
_EXPIRED = f"old.claimed_at < now() - interval '{RETENTION_HOURS} hours'"

# A key that is new, expired, or was left by a process that died, is claimed; then a row is returned.
_CLAIM = f"""
    INSERT INTO headshotpro.idempotency_keys AS old
        (scope, key, fingerprint, holder, claimed_at, leased_until, attempts)
    VALUES (:scope, :key, :fingerprint, :holder, now(), now() + make_interval(secs => :lease), 1)
    ON CONFLICT (scope, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, holder = excluded.holder, leased_until = excluded.leased_until,
        claimed_at = CASE WHEN {_EXPIRED} THEN now() ELSE old.claimed_at END,
        attempts = CASE WHEN {_EXPIRED} THEN 1 ELSE old.attempts + 1 END,
        model_id = NULL, status = NULL
    WHERE old.leased_until <= now()
        AND ({_EXPIRED} OR (old.model_id IS NULL AND old.fingerprint = excluded.fingerprint))
    RETURNING {_COLUMNS}
"""  # noqa: S608 - constants


def claim(
    connection: Connection, idempotency_key: IdempotencyKey, fingerprint: str, holder: str, lease: float
) -> IdempotencyClaim | None:
    """Take a key, or see what became of it: the claim is ours where its holder is.

    In a transaction to be committed before the create is sent. `holder` is a name that no other request has;
    `lease` is for how many seconds the claim of a process that died holds.

    Returns:
        None where the key was released between two statements.
    """
    row = queries.execute(
        connection, _CLAIM, **idempotency_key._asdict(), fingerprint=fingerprint, holder=holder, lease=lease
    ).first()
    if row is None:
        seen = f"SELECT {_COLUMNS} FROM headshotpro.idempotency_keys WHERE scope = :scope AND key = :key"  # noqa: S608 - constant
        row = queries.execute(connection, seen, **idempotency_key._asdict()).first()
    return IdempotencyClaim(*row) if row else None


def finish(
    connection: Connection, idempotency_key: IdempotencyKey, holder: str, model_id: str, status: str | None
) -> None:
    """The create has happened: from now on the key means this model."""
    statement = """
        UPDATE headshotpro.idempotency_keys SET model_id = :model_id, status = :status, leased_until = now()
        WHERE scope = :scope AND key = :key AND holder = :holder
    """
    queries.run(connection, statement, **idempotency_key._asdict(), holder=holder, model_id=model_id, status=status)


def release(connection: Connection, idempotency_key: IdempotencyKey, holder: str) -> None:
    """The create was refused, so nothing was made: the key is free again."""
    statement = "DELETE FROM headshotpro.idempotency_keys WHERE scope = :scope AND key = :key AND holder = :holder"
    queries.run(connection, statement, **idempotency_key._asdict(), holder=holder)


def mark_unknown(connection: Connection, idempotency_key: IdempotencyKey, holder: str) -> None:
    """Nobody knows whether the create has happened: the next request with the key finds out."""
    statement = """
        UPDATE headshotpro.idempotency_keys SET leased_until = now()
        WHERE scope = :scope AND key = :key AND holder = :holder
    """
    queries.run(connection, statement, **idempotency_key._asdict(), holder=holder)


def delete_expired(connection: Connection) -> None:
    """Remove keys that have expired."""
    statement = f"""
        DELETE FROM headshotpro.idempotency_keys AS old WHERE {_EXPIRED} AND leased_until <= now()
    """  # noqa: S608 - constant
    queries.run(connection, statement)

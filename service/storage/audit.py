"""`audit_log`: each act of a person or an API client leaves exactly one row.

An act on our own data is recorded in its own transaction: the row exists exactly where the act does.
An act on the upstream, or one of many transactions, is recorded as `begun` before and gets its outcome after. A row
that stays `begun` belongs to a process that died, or that could not reach Postgres any more.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy import text

from service.errors import Throttled, UpstreamError, UpstreamRejected
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Engine

log = structlog.get_logger(__name__)

RETENTION_DAYS = 400
CONSOLE, API, COMMAND_LINE = "console", "api", "command_line"
BEGUN, DONE, REFUSED, FAILED, UNKNOWN = "begun", "done", "refused", "failed", "unknown"


class Actor(NamedTuple):
    """The person or client that acts.

    Attributes:
        name: of the console user, the API key or the system user.
        kind: `console`, `api` or `command_line`.
        address: that the request came from; for a command the name of its machine.
    """

    name: str
    kind: str
    address: str | None


@dataclass(slots=True)
class Act:
    """An act, as its row describes it.

    Attributes:
        actor: the one that acts.
        action: such as `model.delete`.
        target: id or name of its object; one that it makes may be set until the act ends.
        detail: what else belongs to it, without personal data and secrets; may be added to until the act ends.
        outcome: how it ends where nothing raises.
    """

    actor: Actor
    action: str
    target: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    outcome: str = DONE


def record(connection: Connection, act: Act, outcome: str = DONE) -> int:
    """Write an act's row, in the transaction of the act itself: its id."""
    values = {
        **act.actor._asdict(),
        "action": act.action,
        "target": act.target,
        "outcome": outcome,
        "detail": json.dumps(act.detail),
    }
    return int(connection.execute(_RECORD, values).scalar_one())


_RECORD = text(
    """
    INSERT INTO headshotpro.audit_log (at, actor, actor_kind, address, action, target, outcome, detail)
    VALUES (now(), :name, :kind, :address, :action, :target, :outcome, CAST(:detail AS jsonb))
    RETURNING id
    """
)


def begin(connection: Connection, act: Act) -> int:
    """Write an act's row before the act, in a transaction of its own: its id, for `complete`."""
    return record(connection, act, BEGUN)


def complete(connection: Connection, row_id: int, act: Act, outcome: str) -> None:
    """Write how an act ended; the row that `begin` wrote shows its target and detail as they are now."""
    values = {"id": row_id, "target": act.target, "outcome": outcome, "detail": json.dumps(act.detail)}
    connection.execute(_COMPLETE, values)


_COMPLETE = text(
    """
    UPDATE headshotpro.audit_log SET target = :target, outcome = :outcome, detail = CAST(:detail AS jsonb)
    WHERE id = :id
    """
)


def end(connection: Connection, row_id: int, outcome: str, detail: Mapping[str, Any]) -> None:
    """Write how an act of many transactions ended, in the transaction that ends it; `detail` is added."""
    statement = text(
        "UPDATE headshotpro.audit_log SET outcome = :outcome, detail = detail || CAST(:detail AS jsonb) WHERE id = :id"
    )
    connection.execute(statement, {"id": row_id, "outcome": outcome, "detail": json.dumps(detail)})


@contextmanager
def recorded(engine: Engine, act: Act) -> Iterator[Act]:
    """Record an act on the upstream, or one of many transactions: before the block, and how it ended after it.

    Where Postgres cannot take the outcome, the row stays `begun`: what the upstream did is not undone for it.

    Raises:
        PostgresUnavailable: before anything was done.
    """
    with transaction(engine) as connection:
        row_id = begin(connection, act)
    try:
        yield act
    except BaseException as error:
        act.detail["error"] = _code_of(error)
        _complete(engine, row_id, act, _outcome_of(error))
        raise
    _complete(engine, row_id, act, act.outcome)


def _complete(engine: Engine, row_id: int, act: Act, outcome: str) -> None:
    try:
        with transaction(engine) as connection:
            complete(connection, row_id, act, outcome)
    except Exception as error:  # noqa: BLE001 - the act is over, and the caller gets its result
        log.error("audit.not_completed", row_id=row_id, action=act.action, outcome=outcome, reason=type(error).__name__)


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, UpstreamRejected):
        return REFUSED
    if isinstance(error, Throttled):
        return FAILED
    # An interrupted act may have been done as well.
    return UNKNOWN if isinstance(error, UpstreamError) or not isinstance(error, Exception) else FAILED


def _code_of(error: BaseException) -> str:
    """The vendor's code or the error's type; the message may repeat what was sent, so it may hold an address."""
    return (isinstance(error, UpstreamRejected) and error.code) or type(error).__name__


def one(connection: Connection, row_id: int) -> dict[str, Any] | None:
    """One act."""
    row = connection.execute(text("SELECT * FROM headshotpro.audit_log WHERE id = :id"), {"id": row_id}).mappings()
    found = row.first()
    return dict(found) if found else None


def newest_id(connection: Connection) -> int:
    """The id of the newest act; 0 where there was none."""
    return int(connection.execute(text("SELECT coalesce(max(id), 0) FROM headshotpro.audit_log")).scalar_one())


def newest_of(connection: Connection, actor: Actor, action: str, target: str, above: int) -> int | None:
    """The newest act of one person by its name and target, if its row has one, where its id is greater than `above`."""
    statement = text(
        "SELECT max(id) FROM headshotpro.audit_log WHERE id > :above AND action = :action "
        "AND actor = :name AND actor_kind = :kind AND address = :address AND (target = :target OR target IS NULL)"
    )
    found: int | None = connection.execute(
        statement, {**actor._asdict(), "action": action, "target": target, "above": above}
    ).scalar_one()
    return found


def list_rows(
    connection: Connection, filters: Mapping[str, Any], limit: int, before: int | None
) -> list[dict[str, Any]]:
    """Acts, the newest first.

    Args:
        connection: any transaction.
        filters: column (`actor`, `actor_kind`, `action`, `target`, `outcome`) to the one value wanted.
        limit: how many at most.
        before: only acts with smaller ids, for the next page.
    """
    values = {name: filters.get(name) for name in _FILTERED} | {"limit": limit, "before": before}
    return [dict(row) for row in connection.execute(_LIST, values).mappings()]


_FILTERED = ("actor", "actor_kind", "action", "target", "outcome")
_LIST = text(
    f"""
    SELECT * FROM headshotpro.audit_log
    WHERE {" AND ".join(f"(CAST(:{name} AS text) IS NULL OR {name} = :{name})" for name in _FILTERED)}
        AND (CAST(:before AS bigint) IS NULL OR id < :before)
    ORDER BY id DESC LIMIT :limit
    """  # noqa: S608 - names of our own columns
)

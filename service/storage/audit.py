"""`audit_log`: each act of a person or an API client leaves exactly one row.

An act on our own data is recorded in its own transaction: the row exists exactly where the act does.
An act on the upstream, or one of many transactions, is recorded as `begun` before and gets its outcome after. A row
that stays `begun` belongs to a process that died, or that could not reach Postgres any more.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from service.errors import ActInFlight, MirrorError, Stopping, Throttled, UpstreamError, UpstreamRejected
from service.signal_handlers import before_end
from service.storage import queries
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection, Engine

log = structlog.get_logger(__name__)

RETENTION_DAYS = 400
CONSOLE, API, COMMAND_LINE = "console", "api", "command_line"
# No request to the upstream takes longer: an act that began before is over, or its process died.
LONGEST_ACT_SECONDS = 30.0
# Held while an act looks whether another one is in flight, together with a number of its action and target.
ALONE_LOCK = 0x48534143
# A try before the pause that the end of a process interrupts may have done it.
CHANGES_UPSTREAM = ("model.create", "model.delete")
BEGUN, DONE, REFUSED, FAILED, UNKNOWN = "begun", "done", "refused", "failed", "unknown"


class Actor(NamedTuple):
    """The person or client that acts.

    `kind` is `console`, `api` or `command_line`; `address` for a command is the name of its machine.
    """

    name: str
    kind: str
    address: str | None


@dataclass(slots=True)
class Act:
    """An act, as its row describes it.

    Attributes:
        action: such as `model.delete`.
        target: id or name of its object; one that it makes may be set until the act ends.
        detail: what else belongs to it, without personal data and secrets; may be added to until the act ends.
        outcome: how it ends where nothing raises.
        row_id: its row, once that is written.
    """

    actor: Actor
    action: str
    target: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    outcome: str = DONE
    row_id: int = 0


def record(connection: Connection, act: Act, outcome: str = DONE) -> int:
    """Write an act's row: its id. In the transaction of the act itself, or as `BEGUN` in one of its own before it."""
    of_act = {"action": act.action, "target": act.target, "detail": json.dumps(act.detail)}
    statement = """
        INSERT INTO headshotpro.audit_log (at, actor, actor_kind, address, action, target, outcome, detail)
        VALUES (now(), :name, :kind, :address, :action, :target, :outcome, CAST(:detail AS jsonb))
        RETURNING id
    """
    act.row_id = int(queries.value(connection, statement, **act.actor._asdict(), **of_act, outcome=outcome))
    return act.row_id


def complete(connection: Connection, act: Act, outcome: str) -> None:
    """Write how an act ended; the row that was `BEGUN` shows its target and detail as they are now.

    One that ended in the act's own transaction stays as it is, also where the response to that commit got lost.
    """
    statement = """
        UPDATE headshotpro.audit_log SET target = :target, outcome = :outcome, detail = CAST(:detail AS jsonb)
        WHERE id = :id AND outcome = 'begun'
    """
    queries.run(connection, statement, id=act.row_id, target=act.target, outcome=outcome, detail=json.dumps(act.detail))


def end(connection: Connection, row_id: int, outcome: str, detail: Mapping[str, Any]) -> None:
    """Write how an act of many transactions ended, in the transaction that ends it; `detail` is added."""
    statement = (
        "UPDATE headshotpro.audit_log SET outcome = :outcome, detail = detail || CAST(:detail AS jsonb) WHERE id = :id"
    )
    queries.run(connection, statement, id=row_id, outcome=outcome, detail=json.dumps(detail))


@contextmanager
def recorded(
    engine: Engine, act: Act, *, alone: str = "", check: Callable[[Connection], object] = lambda _connection: None
) -> Iterator[Act]:
    """Record an act on the upstream, or one of many transactions: before the block, and how it ended after it.

    Where Postgres cannot take the outcome, the row stays `begun`: what the upstream did is not undone for it. A
    `MirrorError` of the block leaves with the row's id. `alone` is what is done to the target, such as `deleted`, where
    two at a time may not do it; `check` raises where there is nothing to do, and then no row is written.

    Raises:
        PostgresUnavailable: before anything was done.
        ActInFlight: another one does it; nothing was done.
    """
    # Before the row: a signal may come right after its commit. Without a committed row it changes nothing.
    before_end.append(cut_short := partial(_complete, engine, act, UNKNOWN))
    try:
        with transaction(engine) as connection:
            if alone:
                take_turn(connection, act.action, act.target or "")
                if other := in_flight(connection, act.action, act.target or "", alone):
                    raise ActInFlight(other)
            check(connection)
            record(connection, act, BEGUN)
        try:
            yield act
        except BaseException as error:
            # The vendor's code or the error's type; the message may repeat what was sent, so it may hold an address.
            act.detail["error"] = (isinstance(error, UpstreamRejected) and error.code) or type(error).__name__
            _complete(engine, act, _outcome_of(act, error))
            if isinstance(error, MirrorError):
                error.act_row_id = act.row_id
            raise
        else:
            _complete(engine, act, act.outcome)
    finally:
        before_end.remove(cut_short)


def take_turn(connection: Connection, action: str, target: str) -> None:
    """Let the same act on the same target wait until the commit: it then sees the row of this one."""
    statement = "SELECT pg_advisory_xact_lock(:lock, hashtext(:target))"
    queries.run(connection, statement, lock=ALONE_LOCK, target=f"{action} {target}")


def in_flight(connection: Connection, action: str, target: str, done: str) -> str:
    """A sentence, without its full stop, about the act that does the same at this moment; empty where none does.

    `done` is what is done to the target, such as `deleted`.
    """
    other = queries.row(connection, _IN_FLIGHT, action=action, target=target, seconds=LONGEST_ACT_SECONDS)
    if other is None:
        return ""
    return f"{target} is being {done} by {other['actor']} ({other['actor_kind']}) since {other['at']:%H:%M:%S} UTC"


_IN_FLIGHT = """
    SELECT actor, actor_kind, at FROM headshotpro.audit_log
    WHERE action = :action AND target = :target AND outcome = 'begun' AND at > now() - make_interval(secs => :seconds)
    ORDER BY id LIMIT 1
"""


def _complete(engine: Engine, act: Act, outcome: str) -> None:
    if not act.row_id:
        # A signal came before the row: its handler would wait for what the act waits for.
        return
    try:
        with transaction(engine) as connection:
            complete(connection, act, outcome)
    except Exception as error:  # noqa: BLE001 - the act is over, and the caller gets its result
        reason = type(error).__name__
        log.error("audit.not_completed", row_id=act.row_id, action=act.action, outcome=outcome, reason=reason)


def _outcome_of(act: Act, error: BaseException) -> str:
    if isinstance(error, UpstreamRejected):
        return REFUSED
    if isinstance(error, Throttled):
        return FAILED
    if isinstance(error, Stopping) and act.action in CHANGES_UPSTREAM:
        return UNKNOWN
    # An interrupted act may have been done as well.
    return UNKNOWN if isinstance(error, UpstreamError) or not isinstance(error, Exception) else FAILED


def one(connection: Connection, row_id: int) -> dict[str, Any] | None:
    """One act."""
    return queries.row(connection, "SELECT * FROM headshotpro.audit_log WHERE id = :id", id=row_id)


def list_rows(
    connection: Connection, filters: Mapping[str, Any], limit: int, before: int | None
) -> list[dict[str, Any]]:
    """Acts, the newest first.

    `filters`: a column to the one value wanted, None: all; `before`: those with smaller ids, for the next page.
    """
    return queries.newest(connection, "audit_log", limit, before, **filters)

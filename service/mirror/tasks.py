"""Tasks: work of many transactions that an operator begins, and any worker does in slices.

What a slice did is committed with its place in the table, so a worker that dies loses nothing: the next one goes on
there, and a batch that is merged twice changes nothing. A task that is cancelled stops after its batch.

Why: `docs/decisions/0042-tasks-in-slices.md`.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from service.errors import MirrorError, PostgresUnavailable, SchemaOutdated, Stopping, Throttled, Unavailable
from service.log import format_without_messages
from service.mirror import erasure, held_pulls
from service.mirror.pull_slice import PullState
from service.mirror.replay import ACTION as REPLAY_ACTION
from service.mirror.replay import replay_batch
from service.storage import audit, console_events, pulls, suspects, tasks
from service.storage.console_events import EventPlace, EventSearch
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from sqlalchemy import Connection, Engine

    from service.storage.audit import Actor
    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

MAX_EVENTS = 100_000
# An erasure searches all that are kept, and counts no further.
MAX_COUNTED = 10_000_000
# Few, so that a webhook about the same models waits for some milliseconds only.
BATCH_SIZE = 100
BATCH_BYTES = 1_000_000
# Slices in a row that may end with an error of Postgres, such as a lock that is held.
MAX_FAILURES = 20
CANCEL_ACTION = "task.cancel"


class TaskContext(NamedTuple):
    """A worker's means.

    Attributes:
        counted: requests sent so far by `client`.
        tolerance: how far an event's own time may lie ahead of its signature.
        may_go_on: asked before each batch; False while webhooks wait, and once the process has to stop.
    """

    engine: Engine
    client: UpstreamClient
    counted: Callable[[], int]
    tolerance: timedelta
    may_go_on: Callable[[], bool]


def begin_replay(engine: Engine, search: EventSearch, actor: Actor) -> int:
    """Begin to replay all events that a search finds now: the task's id.

    Raises:
        MirrorError: there is none, there are too many, or another replay runs.
    """
    search = search.received_so_far()
    with transaction(engine) as connection:
        total = console_events.count(connection, search, MAX_EVENTS)
        if not 0 < total <= MAX_EVENTS:
            raise MirrorError(f"more than {MAX_EVENTS:,} events match" if total else "no event matches")
        document = search.document
        act = audit.Act(actor, REPLAY_ACTION, detail={**document, "total": total})
        return _begin(connection, tasks.REPLAY, act, total, search=document)


def begin_release(engine: Engine, pull_id: int, actor: Actor) -> int:
    """Begin to release a pull that is held for its suspects: the task's id.

    Raises:
        MirrorError: no such pull is held, or another release runs.
    """
    held_pulls.require_held(engine, pull_id)
    with transaction(engine) as connection:
        total = suspects.count_held(connection, pull_id)
        act = audit.Act(actor, held_pulls.RELEASE, str(pull_id), {"suspects": total})
        return _begin(connection, tasks.RELEASE, act, total, target=str(pull_id))


def begin_erasure(engine: Engine, model_id: str, actor: Actor) -> int:
    """Begin to erase the personal data of a tombstone: the task's id.

    Raises:
        MirrorError: the model does not exist, is alive, was erased before, or another task erases it.
    """
    with transaction(engine) as connection:
        audit.take_turn(connection, erasure.ACTION, model_id)
        if erasure.require_deleted(connection, model_id)["erased_at"] is not None:
            raise MirrorError(f"{model_id} was erased before")
        if other := tasks.open_erasure(connection, model_id):
            raise MirrorError(f"task {other} erases {model_id} already")
        total = console_events.count(connection, EventSearch(), MAX_COUNTED)
        return _begin(connection, tasks.ERASE, audit.Act(actor, erasure.ACTION, model_id), total, target=model_id)


def _begin(connection: Connection, kind: str, act: audit.Act, total: int, **wanted: Any) -> int:
    audit_id = audit.record(connection, act, audit.BEGUN)
    task_id = tasks.begin(connection, kind, audit_id, total, **wanted)
    if task_id is None:
        raise MirrorError("another one runs already: wait for its end, or cancel it")
    audit.end(connection, audit_id, audit.BEGUN, {"task": task_id})
    return task_id


def cancel(engine: Engine, task_id: int, actor: Actor) -> None:
    """Cancel a running task: what is done stays done.

    Raises:
        MirrorError: it does not run.
    """
    with transaction(engine) as connection:
        task = tasks.end(connection, task_id, tasks.CANCELLED)
        if task is None:
            raise MirrorError(f"task {task_id} does not run")
        audit.end(connection, task["audit_id"], audit.DONE, {**_counts(task), "cancelled": True})
        audit.record(connection, audit.Act(actor, CANCEL_ACTION, str(task_id), _counts(task)))


def run_slice(context: TaskContext, seconds: float) -> None:
    """Do a part of each running task, all of them in `seconds`.

    Raises:
        PostgresUnavailable: Postgres is unavailable; the next slice goes on.
        Stopping: the process has to stop.
    """
    with transaction(context.engine) as connection:
        tasks.start_waiting(connection)
        # Those of a newer release are left to its workers.
        running = [task for task in tasks.list_running(connection) if task["kind"] in _STEPS]
    for task in running:
        # Together they have to end within the lease of this job.
        deadline = monotonic() + seconds / len(running)
        try:
            _STEPS[task["kind"]](context, task, deadline)
        except PostgresUnavailable as error:
            _count_failure(context.engine, task, error)
            raise
        except (Unavailable, SchemaOutdated, Stopping):
            raise
        except MirrorError as error:
            _fail(context.engine, task, str(error))
        except Exception as error:  # noqa: BLE001 - a task that does not end would fail at the same place for ever
            log.error("task.crashed", task_id=task["id"], trace=format_without_messages(error))
            _fail(context.engine, task, f"unexpected error, please report it: {type(error).__name__}")


def _fail(engine: Engine, task: Mapping[str, Any], reason: str) -> None:
    with transaction(engine) as connection:
        _end(connection, task["id"], tasks.FAILED, reason)


def _replay(context: TaskContext, task: Mapping[str, Any], deadline: float) -> None:
    search = EventSearch.of_document(task["search"])
    state = dict(task["state"])
    while monotonic() < deadline and context.may_go_on():
        place = EventPlace(datetime.fromisoformat(state["at"]), state["id"]) if "at" in state else None
        with transaction(context.engine) as connection:
            kept = console_events.next_batch(connection, search, place, BATCH_SIZE, BATCH_BYTES)
        if not kept:
            with transaction(context.engine) as connection:
                _end(connection, task["id"], tasks.DONE)
            return
        results = list(replay_batch(context.engine, kept, context.tolerance))
        state = {"at": kept[-1]["received_at"].isoformat(), "id": kept[-1]["id"]}
        failed = sum(result.after in ("dead", "erased") for result in results)
        if not _advance(context.engine, task, state, done=len(kept), failed=failed):
            return


def _release(context: TaskContext, task: Mapping[str, Any], deadline: float) -> None:
    pull_id, state = int(task["target"]), msgspec.convert(task["state"].get("pull", {}), PullState)
    tombstoned = task["state"].get("tombstoned", 0)
    engine, client = context.engine, context.client
    with transaction(engine) as connection:
        pull = pulls.one(connection, pull_id)
        if pull is not None and pull["status"] == "complete":
            # The process that decided the last suspect ended right after that.
            _end(connection, task["id"], tasks.DONE)
            return
    try:
        held_pulls.require_held(engine, pull_id)
        left = max(1.0, deadline - monotonic())
        for found in held_pulls.decide(engine, client, context.counted, pull_id, state, max_wait=left):
            tombstoned += found or 0
            document = {"pull": msgspec.to_builtins(state), "tombstoned": tombstoned}
            if not _advance(engine, task, document, done=int(found is not None)):
                return
            if monotonic() > deadline or not context.may_go_on():
                return
    except Throttled as error:
        log.info("task.waits", task_id=task["id"], reason=str(error))
        return
    with transaction(engine) as connection:
        tasks.advance(connection, task["id"], {"tombstoned": tombstoned}, failed=len(state.postponed))
        _end(connection, task["id"], tasks.DONE)


def _erase(context: TaskContext, task: Mapping[str, Any], deadline: float) -> None:
    engine, ids, left = context.engine, [task["target"]], task["total"] - task["done"]
    above: str | None = task["state"].get("place", "")
    with transaction(engine) as connection:
        erasure.require_deleted(connection, task["target"])
    while above is not None:
        if monotonic() > deadline or not context.may_go_on():
            return
        above = erasure.search_slice(engine, ids, above)
        searched = left if above is None else min(left, erasure.EVENT_BATCH_SIZE)
        left -= searched
        if not _advance(engine, task, {"place": above}, done=searched):
            return

    def record(connection: Connection, erased: int) -> None:
        detail = erasure.detail_of(connection, task["target"], erased)
        if not _end(connection, task["id"], tasks.DONE, detail=detail):
            raise _Cancelled

    with suppress(_Cancelled):
        erasure.erase_rows(engine, ids, record)


class _Cancelled(Exception):
    """A task was cancelled before its last transaction, which is undone."""


_STEPS = {tasks.REPLAY: _replay, tasks.RELEASE: _release, tasks.ERASE: _erase}


def _advance(engine: Engine, task: Mapping[str, Any], state: Mapping[str, Any], *, done: int, failed: int = 0) -> bool:
    """Write how far a task is: whether it goes on. One that ended meanwhile gets its last counts."""
    with transaction(engine) as connection:
        if tasks.advance(connection, task["id"], state, done=done, failed=failed):
            return True
        ended = tasks.one(connection, task["id"])
        if ended is not None:
            outcome = audit.FAILED if ended["status"] == tasks.FAILED else audit.DONE
            audit.end(connection, task["audit_id"], outcome, _counts(ended))
        return False


def _count_failure(engine: Engine, task: Mapping[str, Any], error: Exception) -> None:
    """Count a slice that Postgres ended; after many in a row the task fails, so that it does not go on for ever."""
    with transaction(engine) as connection:
        if tasks.count_failure(connection, task["id"]) >= MAX_FAILURES:
            _end(connection, task["id"], tasks.FAILED, str(error))


def _end(
    connection: Connection, task_id: int, status: str, error: str | None = None, detail: Mapping[str, Any] | None = None
) -> bool:
    """End a task, and its act; False where it had ended already."""
    task = tasks.end(connection, task_id, status, error)
    if task is None:
        return False
    outcome = audit.DONE if status == tasks.DONE else audit.FAILED
    reason = {} if error is None else {"reason": error}
    audit.end(connection, task["audit_id"], outcome, {**_counts(task), **reason, **(detail or {})})
    log.info("task.ended", task_id=task_id, kind=task["kind"], status=status)
    return True


def _counts(task: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a task, for its act."""
    if task["kind"] == tasks.ERASE:
        return {"searched": task["done"]}
    counts = {"done": task["done"], "failed": task["failed"]}
    return counts | {"tombstoned": task["state"]["tombstoned"]} if "tombstoned" in task["state"] else counts

"""Drains that are killed at every step: `python -m tests.faults.killed_drains inbox|spool DATABASE_URL REDIS_URL`.

A step is each moment before and after a call of Postgres or Redis. For each one a child of this program drains a batch
of its own and is killed there; then this program drains what is left, and prints what the database holds of that batch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import event

from service.broker.inbox import Delivery, Inbox
from service.mirror.batches import BATCH_SIZE
from service.mirror.drain import drain_batch, drain_spool
from service.storage import spool
from service.storage.database import transaction
from tests.support.drainer import T0, TOLERANCE, Drainer, minutes, opened
from tests.support.system import event_body, new_id

if TYPE_CHECKING:
    from sqlalchemy import Engine

MOST_STEPS = 200


class Steps:
    """Counts the steps of a drain, and kills the process at one of them.

    Args:
        last: the number of the step at which to die.
        told: the file descriptor for the name of that step.
    """

    def __init__(self, last: int, told: int) -> None:
        self._left = last
        self._told = told

    def __call__(self, name: str) -> None:
        """One step."""
        self._left -= 1
        if self._left == 0:
            os.write(self._told, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def watch_postgres(engine: Engine, step: Steps) -> None:
    """Every statement, before and after; the commit, before and after."""

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        step(f"before {' '.join(statement.split()[:3])}")

    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        step(f"after {' '.join(statement.split()[:3])}")

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "commit", lambda _connection: step("before the commit"))
    event.listen(engine, "checkin", lambda *_: step("after the commit"))


def watched_redis(url: str, step: Steps) -> redis.Redis:
    """A client whose every command is a step before it is sent, and every answer one after it came."""

    class Watched(redis.Connection):
        def send_packed_command(self, *arguments: Any, **options: Any) -> None:
            step("before a command of Redis")
            super().send_packed_command(*arguments, **options)

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            answer = super().read_response(*arguments, **options)
            step("after an answer of Redis")
            return answer

    pool = redis.ConnectionPool.from_url(url)
    pool.connection_class = Watched
    return redis.Redis(connection_pool=pool)


def give(drainer: Drainer, source: str, number: int) -> dict[str, str]:
    """Four deliveries of three events about two models, one of them delivered twice: the names of all."""
    one, other = new_id(), new_id()
    told = [
        event_body(one, at=T0, status="waiting", event_id=f"evt_{number}_1"),
        event_body(one, at=minutes(1), status="active", event_id=f"evt_{number}_2"),
        event_body(one, at=T0, status="waiting", event_id=f"evt_{number}_1"),
        event_body(other, "model.deleted", at=T0, status="active", event_id=f"evt_{number}_3"),
    ]
    if source == "inbox":
        drainer.put(*told)
    else:
        now = datetime.now(UTC)
        for body in told:
            with transaction(drainer.engine) as connection:
                spool.put(connection, Delivery.arrived(body, int(now.timestamp()), now))
    return {"one": one, "other": other}


def killed(source: str, url: str, redis_url: str, number: int) -> str | None:
    """Drain in a child that dies at a step: its name, or None where the drain was over before."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        step = Steps(number, tell)
        with opened(url, redis_url) as drainer:
            watch_postgres(drainer.engine, step)
            if source == "inbox":
                box = Inbox(watched_redis(redis_url, step))
                drain_batch(drainer.engine, box, box.read(BATCH_SIZE, 0), TOLERANCE)
            else:
                drain_spool(drainer.engine, TOLERANCE)
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as pipe:
        name = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        return None
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    return name


def finish(drainer: Drainer, source: str) -> None:
    """The entries of the dead drain are taken over."""
    if source == "spool":
        drain_spool(drainer.engine, TOLERANCE)
        return
    # First the entries that no drain has read, then those in flight at the dead one.
    drainer.drain()
    drainer.age_pending_entries()
    drainer.drain()


def outcome(drainer: Drainer, number: int, models: dict[str, str]) -> dict[str, Any]:
    """The rows that a batch has written."""
    return {
        "statuses": {name: drainer.row(model)["status"] for name, model in models.items()},
        "changes": {name: [c["to_status"] for c in drainer.changes(model)] for name, model in models.items()},
        "deliveries": [drainer.event(f"evt_{number}_{event}")["deliveries"] for event in (1, 2, 3)],
        "left": drainer.box.depth().events,
    }


def main(source: str, url: str, redis_url: str) -> None:
    """Kill at step 1, 2, … until a drain is over before its step comes."""
    for number in range(1, MOST_STEPS):
        with opened(url, redis_url) as drainer:
            models = give(drainer, source, number)
        name = killed(source, url, redis_url, number)
        with opened(url, redis_url) as drainer:
            finish(drainer, source)
            print(json.dumps({"step": name, **outcome(drainer, number, models)}), flush=True)  # noqa: T201
        if name is None:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The clock over real servers: any number may run, one acts, and it asks for what is due and for nothing else."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from service.broker.inbox import STREAM
from service.broker.jobs import DRAIN_QUEUE, WORK_QUEUE, rq_queue
from service.broker.stale_models import STALE_MODELS
from service.config import load
from service.errors import SchemaOutdated
from service.runtime import Runtime
from tests.support.processes import eventually
from tests.support.system import API_KEY, NOWHERE, event_body, new_id, rows
from workers.alerting import Alerting
from workers.clock import LEASE_KEY, LEASE_SECONDS, Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.drainer import Drainer


@pytest.fixture
def clock(folder: Path, database_url: str, redis_url: str) -> Iterator[Callable[..., Clock]]:
    """Starts clocks, each as if in a process of its own; what is given replaces a setting."""
    runtimes: list[Runtime] = []

    def start(**changes: str) -> Clock:
        environ = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "HEADSHOTPRO_API_URL": NOWHERE,
            "HEADSHOTPRO_API_KEY": API_KEY,
            **changes,
        }
        runtimes.append(Runtime.build(load(environ=environ, dotenv=folder / ".env")))
        return Clock(runtimes[-1])

    yield start
    for runtime in runtimes:
        runtime.engine.dispose()
        runtime.redis.close()


def asked(drainer: Drainer) -> list[str]:
    """The jobs that wait for a worker, oldest first in each queue."""
    names = [job.description for name in (DRAIN_QUEUE, WORK_QUEUE) for job in rq_queue(drainer.client, name).jobs]
    return [name for name in names if name]


def holder(drainer: Drainer) -> bytes | None:
    found: bytes | None = drainer.client.get(LEASE_KEY)
    return found


def test_one_of_several_clocks_acts(clock: Callable[..., Clock], drainer: Drainer) -> None:
    first, second = clock(), clock()
    first.tick()
    acting = holder(drainer)
    # As if all that the first one asked for were done: the second one asks for nothing.
    drainer.client.delete(*[key for key in drainer.client.scan_iter() if key.decode() != LEASE_KEY])
    for _ in range(3):
        second.tick()
    assert asked(drainer) == []
    assert holder(drainer) == acting
    assert 0 < drainer.client.pttl(LEASE_KEY) <= LEASE_SECONDS * 1000


def test_another_acts_at_once_when_one_is_stopped(clock: Callable[..., Clock], drainer: Drainer) -> None:
    first, second = clock(), clock()
    first.tick()
    before = holder(drainer)
    # One that does not act gives nothing away.
    second.release()
    assert holder(drainer) == before
    first.release()
    second.tick()
    assert holder(drainer) not in {before, None}


def test_another_acts_within_15_s_when_one_is_killed(clock: Callable[..., Clock], drainer: Drainer) -> None:
    first, second = clock(), clock()
    first.tick()
    before = monotonic()

    def acts() -> bool:
        second.tick()
        return second.acting

    assert not acts()
    assert eventually(acts)
    assert monotonic() - before < 15


def test_the_first_full_pull_is_due_at_once_and_asked_for_once(clock: Callable[..., Clock], drainer: Drainer) -> None:
    acting = clock()
    for _ in range(3):
        acting.tick()
        acting._next_check = [0.0] * len(acting._next_check)
    assert asked(drainer).count("pull_full") == 1
    assert "drain" not in asked(drainer)
    assert "pull_hot" not in asked(drainer)


def test_a_drain_is_asked_for_while_events_wait(clock: Callable[..., Clock], drainer: Drainer) -> None:
    drainer.put(event_body(new_id()))
    clock().tick()
    assert asked(drainer)[0] == "drain"


def test_without_postgres_drains_are_asked_for_all_the_same(clock: Callable[..., Clock], drainer: Drainer) -> None:
    drainer.put(event_body(new_id()))
    clock(DATABASE_URL="postgresql://u:p@127.0.0.1:9/d").tick()
    assert asked(drainer)[0] == "drain"


def test_alerting_waits_for_postgres_but_not_for_redis(clock: Callable[..., Clock], database_url: str) -> None:
    nowhere = clock(DATABASE_URL="postgresql://u:p@127.0.0.1:9/d", ALERT_URLS="json://127.0.0.1:9/")
    Alerting(nowhere._runtime).tick()
    Alerting(clock(REDIS_URL="redis://127.0.0.1:9", ALERT_URLS="json://127.0.0.1:9/")._runtime).tick()
    assert len(rows(database_url, "select * from headshotpro.receivers")) == 1
    assert rows(database_url, "select observing_since < now() as looked from headshotpro.alert_evaluator") == [
        {"looked": True}
    ]


def test_without_redis_a_clock_waits(clock: Callable[..., Clock], drainer: Drainer) -> None:
    alone = clock(REDIS_URL="redis://127.0.0.1:9")
    alone.tick()
    alone.release()
    assert asked(drainer) == []


def test_key_of_a_wrong_type_delays_no_other_job(clock: Callable[..., Clock], drainer: Drainer) -> None:
    drainer.client.set(STALE_MODELS, "by hand")
    drainer.client.set(STREAM, "by hand")
    with capture_logs() as logs:
        clock().tick()
    assert "pull_full" in asked(drainer)
    assert "apply_retention" in asked(drainer)
    named = {line for entry in logs for line in entry.get("keys", ())}
    for name, kind in ((STALE_MODELS, "set"), (STREAM, "stream")):
        wrong = f"{name} is a string, and has to be a {kind}"
        assert f"{wrong}: find out which program wrote it, then run `redis-cli del {name}`" in named


def test_outdated_schema_ends_a_clock_with_or_without_redis(
    clock: Callable[..., Clock], empty_database_url: str
) -> None:
    clock().tick()
    for redis_url in ({}, {"REDIS_URL": "redis://127.0.0.1:9"}):
        with pytest.raises(SchemaOutdated):
            clock(DATABASE_URL=empty_database_url, **redis_url).tick()

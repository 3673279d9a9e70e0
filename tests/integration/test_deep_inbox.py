"""The drain's job over a deep inbox: two lanes at once, and each model's history as if there were one."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from service.config import Settings
from service.counters import EVENTS, read
from service.errors import InboxUnavailable
from service.mirror.batches import BATCH
from service.runtime import Runtime
from tests.support.drainer import T0
from tests.support.system import NOWHERE, event_body, new_id, rows
from workers import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.inbox import Entry
    from tests.support.drainer import Drainer


@pytest.fixture
def worker(drainer: Drainer, database_url: str, redis_url: str) -> Iterator[Runtime]:
    """The runtime of a worker's child, with the jobs on it."""
    runtime = Runtime.build(Settings(database_url=database_url, redis_url=redis_url, headshotpro_api_url=NOWHERE))
    jobs.install(runtime)
    yield runtime
    runtime.engine.dispose()
    runtime.redis.close()


def test_a_deep_inbox_is_applied_once_and_each_step_of_each_model_is_told(drainer: Drainer, worker: Runtime) -> None:
    dice, models = Random(2), [new_id() for _ in range(50)]
    told: dict[str, list[str]] = {model: [] for model in models}
    bodies = []
    for number in range(5 * BATCH // 2):
        model = dice.choice(models)
        told[model].append(f"title {number}")
        bodies.append(event_body(model, at=T0 + timedelta(seconds=number), title=told[model][-1]))
    # Some come twice, a while later: they are of the same lane, or of a later batch.
    bodies += dice.sample(bodies, 100)
    drainer.put(*bodies)
    jobs.drain()
    drainer.assert_empty()
    history = rows(drainer.url, "select model_id, changed from headshotpro.model_changes order by id")
    shown = {
        model: [change["changed"]["title"][1] for change in history if change["model_id"] == model] for model in models
    }
    assert shown == told
    (kept,) = rows(drainer.url, "select count(*), sum(deliveries) from headshotpro.webhook_events")
    assert (kept["count"], kept["sum"]) == (len(bodies) - 100, len(bodies))
    worker.counters.flush()
    counted = Counter({labels[1]: int(number) for labels, number in read(worker.redis).items() if labels[0] == EVENTS})
    assert counted["applied"] == len(bodies) - 100


def test_what_ends_a_lane_ends_the_drain_even_where_nothing_follows(
    drainer: Drainer, worker: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply(_runtime: Runtime, entries: list[Entry], _deadline: float) -> None:
        applied.append(len(entries))
        if len(applied) > 1:
            raise InboxUnavailable("made up")

    applied: list[int] = []
    monkeypatch.setattr(jobs, "_apply", apply)
    # The second batch is as large as was asked for, so a third one is looked for before it is done.
    drainer.put(*[event_body(new_id(), at=T0) for _ in range(3 * BATCH)])
    with pytest.raises(InboxUnavailable):
        jobs.drain()
    assert sum(applied) == 3 * BATCH

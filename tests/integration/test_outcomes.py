"""daily_outcomes is exact at any time: beside changes, teams, deleted history, and whatever part is folded."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.mirror.retention import fold_outcomes
from service.storage import outcomes
from service.storage.database import transaction
from tests.support.drainer import Drainer, minutes
from tests.support.system import event_body, rows

if TYPE_CHECKING:
    from collections.abc import Callable

# The definition of the contract, in which nothing is folded.
WHOLE = """
    select day, team_id, count(*) filter (where outcome = 'created') as created,
        count(*) filter (where outcome = 'active') as active, count(*) filter (where outcome = 'failed') as failed,
        count(*) filter (where outcome = 'deleted') as deleted
    from (
        select (created_at at time zone 'UTC')::date as day, team_id, 'created' as outcome
        from headshotpro.models where created_at is not null
        union all
        select (first.observed_at at time zone 'UTC')::date, m.team_id, 'created'
        from headshotpro.models as m cross join lateral (
            select c.observed_at from headshotpro.model_changes as c where c.model_id = m.id order by c.id limit 1
        ) as first
        where m.created_at is null
        union all
        select (finished_at at time zone 'UTC')::date, team_id, 'active'
        from headshotpro.models where finished_at is not null
        union all
        select became.day, m.team_id, 'active' from (
            select distinct (observed_at at time zone 'UTC')::date as day, model_id
            from headshotpro.model_changes where to_status = 'active'
        ) as became join headshotpro.models as m on m.id = became.model_id and m.finished_at is null
        union all
        select became.day, m.team_id, 'failed' from (
            select distinct (observed_at at time zone 'UTC')::date as day, model_id
            from headshotpro.model_changes where to_status = 'failed'
        ) as became join headshotpro.models as m on m.id = became.model_id
        union all
        select (deleted_at at time zone 'UTC')::date, team_id, 'deleted'
        from headshotpro.models where deleted_at is not null
    ) as outcomes
    group by day, team_id
"""
VIEW = "select * from headshotpro.daily_outcomes"
STATUSES = ("waiting", "pending", "failed", "failed", "active", "active", "deleted")
ACTIONS = 40


def counted(drainer: Drainer, query: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in rows(drainer.url, query)), key=repr)


def deliver(drainer: Drainer, rng: Random, number: int) -> None:
    """Some events of one of a few models; some of them name no times."""
    model, bodies = f"model_{rng.randrange(6)}", []
    for step in range(rng.randrange(1, 4)):
        status, at = rng.choice(STATUSES), minutes(number * 300 + step * 100)
        times = {"createdAt": "2026-01-01T10:00:00.000Z", "finishedAt": "2026-01-03T23:30:00.000Z"}
        told = {name: time for name, time in times.items() if rng.random() < 0.2}
        kind = "model.deleted" if status == "deleted" else "model.status.updated"
        bodies.append(event_body(model, kind, status=status, at=at, **told))
    drainer.take(*bodies)


def move_to_a_team(drainer: Drainer, rng: Random, number: int) -> None:
    with psycopg.connect(drainer.url) as connection:
        connection.execute(
            "with moved as (update headshotpro.models set team_id = %s where id = %s returning id) "
            "insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at) "
            "select id, '{}', 'pull', %s, now() from moved",
            [rng.choice([None, "", "team_1", "team_2"]), f"model_{rng.randrange(6)}", minutes(number * 300)],
        )


def forget_history(drainer: Drainer, rng: Random, _number: int) -> None:
    with psycopg.connect(drainer.url) as connection:
        connection.execute(
            "delete from headshotpro.model_changes where id <= (select min(id) from headshotpro.model_changes) + %s",
            [rng.randrange(4)],
        )


def fold_some(drainer: Drainer, rng: Random, _number: int) -> None:
    with transaction(drainer.engine) as connection:
        outcomes.fold(connection, rng.randrange(1, 6))


@pytest.mark.parametrize("seed", range(4))
def test_outcomes_are_exact_after_any_actions(drainer: Drainer, seed: int) -> None:
    rng = Random(seed)
    actions: list[Callable[[Drainer, Random, int], None]] = [
        deliver,
        deliver,
        move_to_a_team,
        forget_history,
        fold_some,
    ]
    for number in range(ACTIONS):
        action = rng.choice(actions)
        action(drainer, rng, number)
        assert counted(drainer, VIEW) == counted(drainer, WHOLE), (number, action)
    assert fold_outcomes(drainer.engine, 20)
    assert counted(drainer, VIEW) == counted(drainer, WHOLE)
    assert rows(drainer.url, "select * from headshotpro.unfolded_models() as id") == []


def test_one_process_folds_at_a_time(drainer: Drainer) -> None:
    deliver(drainer, Random(1), 0)
    with transaction(drainer.engine) as first, transaction(drainer.engine) as second:
        assert outcomes.fold(first, 100) > 0
        assert outcomes.fold(second, 100) == 0

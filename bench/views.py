"""How quick the views are on a large organization: `python -m bench.views --models 1000000 --changes 10000000`.

Fills a database of its own by SQL: three years of models, each with ten changes, one in a hundred failed now and one in
five failed once; a year of pulls. Then each view and each query of deploy/ is run six times, and the median of the last
five is told, with the plan.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg

from service.local.servers import Postgres
from service.storage.migrations import schema
from tests.support.documents import Query, panel_queries, questions

RUNS = 6

# A model's ten changes: what becomes of most, of those that fail once, of those that are failed now, of the deleted.
LIVES = {
    "most": "onboarding,waiting,pending,generatingHeadshots,active,,,,,",
    "fallen": "onboarding,waiting,pending,failed,pending,generatingHeadshots,active,,,",
    "failed": "onboarding,waiting,pending,failed,pending,failed,,,,",
    "deleted": "onboarding,waiting,pending,generatingHeadshots,active,,,,,deleted",
    "young": "onboarding,,,,,,,,,",
    "stuck": "onboarding,waiting,pending,,,,,,,",
}
LIFE = """
    case when i %% 1000 = 2 then 'stuck' when i %% 100 = 0 then 'failed' when i %% 100 = 1 then 'young'
        when i %% 100 = 3 then 'deleted' when i %% 5 = 0 then 'fallen' else 'most' end
"""

FILL_MODELS = f"""
    insert into headshotpro.models (id, uid, email, title, status, team_id, team_name, is_development, created_at,
        finished_at, deleted_at, photo_count, observed_at, updated_at)
    select lpad(to_hex(extract(epoch from at)::bigint), 8, '0') || lpad(to_hex(i), 16, '0'), 'anon_' || i,
        'person' || i || '@example.com', 'Person ' || i,
        case life when 'failed' then 'failed' when 'young' then 'onboarding' when 'stuck' then 'pending'
            when 'deleted' then 'deleted' else 'active' end,
        'team_' || i %% 40, 'Team ' || i %% 40, i %% 50 = 0, at,
        case when life not in ('failed', 'young', 'stuck') then at + interval '70 minutes' end,
        case when life = 'deleted' then at + interval '100 minutes' end,
        case when life not in ('failed', 'young', 'stuck') then 40 end, at + interval '90 minutes',
        at + interval '90 minutes'
    from (
        select i, {LIFE} as life, %(now)s - interval '3 years' * (1 - i::float8 / %(models)s) as at
        from generate_series(1, %(models)s) as i
    ) as model
"""
FILL_CHANGES = f"""
    insert into headshotpro.model_changes
        (model_id, from_status, to_status, changed, source, observed_at, recorded_at)
    select lpad(to_hex(extract(epoch from at)::bigint), 8, '0') || lpad(to_hex(i), 16, '0'),
        case when step > 1 and statuses[step] <> '' then (
            select s from unnest(statuses[:step - 1]) with ordinality as earlier (s, place)
            where s <> '' order by place desc limit 1
        ) end,
        nullif(statuses[step], ''), '{{"photo_count": [null, 40]}}',
        case when step %% 5 = 0 then 'pull' else 'webhook' end,
        at + step * interval '10 minutes', at + step * interval '10 minutes'
    from (
        select i, %(now)s - interval '3 years' * (1 - i::float8 / %(models)s) as at,
            string_to_array(%(lives)s::jsonb ->> ({LIFE}), ',') as statuses
        from generate_series(1, %(models)s) as i
    ) as model, generate_series(1, %(each)s) as step
"""
FILL_PULLS = """
    insert into headshotpro.pulls (kind, status, started_at, finished_at, pages, changed, webhooks_checked_at)
    select case when i % 8 = 0 then 'full' else 'hot' end, 'complete', at, at + interval '20 seconds', 50, 3, at
    from (select i, now() - interval '2 minutes' * (250000 - i) as at from generate_series(1, 250000) as i) as pull
"""
VIEWS = [
    Query("mirror_status", "select * from headshotpro.mirror_status"),
    Query("live_models, counted", "select count(*) from headshotpro.live_models"),
    Query("failed_models, all", "select * from headshotpro.failed_models"),
    Query(
        "status_durations of one model",
        "select * from headshotpro.status_durations where model_id = "
        "(select id from headshotpro.models order by created_at desc limit 1)",
    ),
    Query(
        "status_durations of a week, one status",
        "select avg(seconds) from headshotpro.status_durations "
        "where status = 'pending' and entered_at > now() - interval '7 days'",
    ),
    Query(
        "status_durations of a week, all statuses",
        "select status, avg(seconds) from headshotpro.status_durations "
        "where entered_at > now() - interval '7 days' group by status",
    ),
    Query(
        "daily_outcomes of 30 days",
        "select * from headshotpro.daily_outcomes where day > (now() at time zone 'UTC')::date - 30",
    ),
    Query("daily_outcomes of three years", "select * from headshotpro.daily_outcomes"),
]


def fill(connection: psycopg.Connection, models: int, changes: int) -> None:
    """Fill the tables, with the indexes of the largest made afterwards: that is quicker."""
    indexes = connection.execute(
        "select indexname, indexdef from pg_indexes where schemaname = 'headshotpro' and tablename in "
        "('models', 'model_changes') and indexname not like '%_pkey'"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"drop index headshotpro.{name}".encode())
    lives = "{" + ", ".join(f'"{name}": "{life}"' for name, life in LIVES.items()) + "}"
    values = {"models": models, "each": changes // models, "lives": lives, "now": datetime.now(UTC)}
    connection.execute(FILL_MODELS.encode(), values)
    connection.execute(FILL_CHANGES.encode(), values)
    connection.execute(FILL_PULLS.encode())
    for _, definition in indexes:
        connection.execute(definition.encode())
    connection.execute("vacuum analyze headshotpro.models, headshotpro.model_changes, headshotpro.pulls")


def warm_ms(connection: psycopg.Connection, query: Query) -> float:
    """Milliseconds of a query whose pages were all read before, its rows fetched."""
    taken = []
    for _ in range(RUNS):
        before = time.perf_counter()
        connection.execute(query.sql.encode()).fetchall()
        taken.append((time.perf_counter() - before) * 1000)
    return median(taken[1:])


def plan(connection: psycopg.Connection, query: Query) -> list[str]:
    """The plan's lines."""
    return [row[0] for row in connection.execute(f"explain (costs off) {query.sql}".encode())]


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=10_000_000)
    parser.add_argument("--plans", action="store_true", help="print the plans, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hm-") as folder, Postgres.start(Path(folder), durable=False) as server:
        schema.migrate(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            before = time.monotonic()
            fill(connection, given.models, given.changes)
            print(f"{server.name}: filled in {time.monotonic() - before:.0f} s", flush=True)
            for query in [*VIEWS, *questions(), *panel_queries()]:
                print(f"{warm_ms(connection, query):8.1f} ms  {query.title}", flush=True)
                if given.plans:
                    print(*(f"             {line}" for line in plan(connection, query)), sep="\n", flush=True)


if __name__ == "__main__":
    main()

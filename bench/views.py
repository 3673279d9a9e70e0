"""How quick the views are on a large organization: `python -m bench.views --models 1000000 --changes 10000000`.

Fills a database by SQL: three years of models with ten changes each, one in a hundred failed now and one in five once,
and a year of pulls. Then each view and each query of `deploy/` runs six times; the median of the last five counts.
"""

import json
import time
from datetime import UTC, datetime
from statistics import median

import click
import psycopg

from bench.setup import servers
from service.mirror.retention import fold_outcomes
from service.storage import database
from tests.support.documents import Query, panel_queries, questions

RUNS = 6
# The ten changes of a model: of most, of those that fail once, of those that are failed now, and so on.
LIVES = {
    "most": "onboarding,waiting,pending,generatingHeadshots,active,,,,,",
    "fallen": "onboarding,waiting,pending,failed,pending,generatingHeadshots,active,,,",
    "failed": "onboarding,waiting,pending,failed,pending,failed,,,,",
    "deleted": "onboarding,waiting,pending,generatingHeadshots,active,deleted,,,,",
    "young": "onboarding,,,,,,,,,",
    "stuck": "onboarding,waiting,pending,,,,,,,",
}
MODEL = """
    select i, lpad(to_hex(extract(epoch from at)::bigint), 8, '0') || lpad(to_hex(i), 16, '0') as id, at,
        case when i %% 1000 = 2 then 'stuck' when i %% 100 = 0 then 'failed' when i %% 100 = 1 then 'young'
            when i %% 100 = 3 then 'deleted' when i %% 5 = 0 then 'fallen' else 'most' end as life
    from (
        select i, %(now)s - interval '3 years' * (1 - i::float8 / %(models)s) as at
        from generate_series(1, %(models)s) as i
    ) as born
"""
FILL_MODELS = f"""
    insert into headshotpro.models (id, uid, email, title, status, team_id, team_name, is_development, created_at,
        finished_at, deleted_at, photo_count, observed_at, updated_at)
    select id, 'anon_' || i, 'person' || i || '@example.com', 'Person ' || i,
        case life when 'failed' then 'failed' when 'young' then 'onboarding' when 'stuck' then 'pending'
            when 'deleted' then 'deleted' else 'active' end,
        'team_' || i %% 40, 'Team ' || i %% 40, i %% 50 = 0, at,
        case when life not in ('failed', 'young', 'stuck') then at + interval '70 minutes' end,
        case when life = 'deleted' then at + interval '100 minutes' end,
        case when life not in ('failed', 'young', 'stuck') then 40 end, at + interval '90 minutes',
        at + interval '90 minutes'
    from ({MODEL}) as model
"""
FILL_CHANGES = f"""
    insert into headshotpro.model_changes
        (model_id, from_status, to_status, changed, source, observed_at, recorded_at)
    select id, case when status <> '' then statuses[step - 1] end, nullif(status, ''), '{{"photo_count": [null, 40]}}',
        case when step %% 5 = 0 then 'pull' else 'webhook' end, at + step * interval '10 minutes',
        at + step * interval '10 minutes'
    from (
        select id, at, step, statuses, statuses[step] as status
        from ({MODEL}) as model, string_to_array(%(lives)s::jsonb ->> life, ',') as statuses,
            generate_series(1, %(each)s) as step
    ) as changed
"""
FILL_PULLS = """
    insert into headshotpro.pulls (kind, status, started_at, finished_at, pages, changed, webhooks_checked_at)
    select case when i % 8 = 0 then 'full' else 'hot' end, 'complete', at, at + interval '20 seconds', 50, 3, at
    from (select i, now() - interval '2 minutes' * (250000 - i) as at from generate_series(1, 250000) as i) as pull
"""
INDEXES = """
    select indexname, indexdef from pg_indexes where schemaname = 'headshotpro'
    and tablename in ('models', 'model_changes') and indexname not like '%_pkey'
"""
DURATIONS = "select status, avg(seconds) from headshotpro.status_durations where entered_at > now() - interval '7 days'"
NEWEST = "(select id from headshotpro.models order by created_at desc limit 1)"
OUTCOMES = "select * from headshotpro.daily_outcomes"
VIEWS = {
    "mirror_status": "select * from headshotpro.mirror_status",
    "live_models, counted": "select count(*) from headshotpro.live_models",
    "failed_models, all": "select * from headshotpro.failed_models",
    "status_durations of one model": f"select * from headshotpro.status_durations where model_id = {NEWEST}",
    "status_durations of a week, one status": f"{DURATIONS} and status = 'pending' group by status",
    "status_durations of a week, all statuses": f"{DURATIONS} group by status",
    "daily_outcomes of 30 days": f"{OUTCOMES} where day > (now() at time zone 'UTC')::date - 30",
    "daily_outcomes of three years": OUTCOMES,
}


def fill(connection: psycopg.Connection, url: str, models: int, changes: int) -> None:
    """Fill the tables; the indexes of the largest are made afterwards, which is quicker."""
    indexes = connection.execute(INDEXES.encode()).fetchall()
    for name, _ in indexes:
        connection.execute(f"drop index headshotpro.{name}".encode())
    lives = json.dumps(LIVES)
    values = {"models": models, "each": changes // models, "lives": lives, "now": datetime.now(UTC)}
    connection.execute(FILL_MODELS.encode(), values)
    connection.execute(FILL_CHANGES.encode(), values)
    connection.execute(FILL_PULLS.encode())
    for _, definition in indexes:
        connection.execute(definition.encode())
    connection.execute("vacuum analyze")
    # A worker does so once a minute.
    while not fold_outcomes(database.connect(url), 60):
        connection.execute("vacuum analyze headshotpro.outcome_counts, headshotpro.model_outcomes")


def warm_ms(connection: psycopg.Connection, sql: str) -> float:
    """Milliseconds of a query whose pages were all read before, its rows fetched."""
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        connection.execute(sql.encode()).fetchall()
        taken.append((time.perf_counter() - began) * 1000)
    return median(taken[1:])


@click.command()
@click.option("--models", default=1_000_000)
@click.option("--changes", default=10_000_000)
@click.option("--plans", is_flag=True, help="Print the plans.")
def main(models: int, changes: int, plans: bool) -> None:
    with servers(durable=False) as place, psycopg.connect(place.postgres.url, autocommit=True) as connection:
        fill(connection, place.postgres.url, models, changes)
        print(place.postgres.name)
        views = [Query(title, sql) for title, sql in VIEWS.items()]
        for query in [*views, *questions(), *panel_queries()]:
            print(f"{warm_ms(connection, query.sql):8.1f} ms  {query.title}", flush=True)
            for (line,) in connection.execute(f"explain (costs off) {query.sql}".encode()) if plans else ():
                print(f"             {line}", flush=True)


if __name__ == "__main__":
    main()

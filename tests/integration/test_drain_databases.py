"""The drain in databases that are set up in other ways: zones, search paths, users, limits, poolers."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from service.storage import database
from service.storage.schema import migrate
from tests.support.drainer import T0, Drainer, minutes, never_one_by_one, opened
from tests.support.processes import eventually
from tests.support.system import event_body, new_id, rows


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_the_ends_of_time_do_no_harm_in_a_database_of_another_zone(drainer: Drainer, zone: str) -> None:
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set timezone = {}").format(name, zone))
    drainer.engine.dispose()
    for said in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"):
        model = new_id()
        assert drainer.take(event_body(model, at=T0, inviteExpiresAt=said)) == {"applied": 1}
        assert drainer.take(event_body(model, at=minutes(1), inviteExpiresAt=None, status="failed")) == {"applied": 1}
        assert drainer.row(model)["status"] == "failed"


def test_a_payload_that_postgres_refuses_even_from_the_dead_is_kept_as_text(drainer: Drainer) -> None:
    # How deep JSON may be nested depends on both sides' stacks; here Postgres' is the smaller one.
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set max_stack_depth = '100kB'").format(name))
    drainer.engine.dispose()
    good = new_id()
    nested = b"[" * 900 + b"]" * 900
    body = b'{"id": "evt_deep", "event": "e", "object": {"_id": "deep", "status": "active"}, "x": %s}' % nested
    assert drainer.take(event_body(good, at=T0), body) == {"applied": 1, "dead": 1}
    event = drainer.event("evt_deep")
    assert (event["status"], event["payload"]) == ("dead", body.decode())
    drainer.assert_empty()


def test_a_search_path_with_decoys_is_not_looked_at(empty_database_url: str, redis_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("create schema decoy")
        connection.execute("create function decoy.now() returns timestamptz language sql as 'select null::timestamptz'")
        for table in ("models", "model_clocks", "model_changes", "webhook_events", "wishes", "alembic_version"):
            connection.execute(f"create table decoy.{table} (nothing int)")
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set search_path = decoy, public").format(name))
    migrate(empty_database_url)
    with opened(empty_database_url, redis_url) as drainer:
        model = new_id()
        assert drainer.take(event_body(model, "model.photos_ready", at=T0)) == {"applied": 1}
        assert drainer.row(model)["status"] == "active"
        assert len(drainer.changes(model)) == 1
        decoys = rows(drainer.url, "select * from decoy.models")
    assert decoys == []


def test_a_user_who_may_only_create_schemas_is_enough(empty_database_url: str, redis_url: str) -> None:
    # The other tests run as a superuser, who moreover has the schema's name.
    role = f"user_{new_id()}"
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        info = connection.info
        name, user = sql.Identifier(info.dbname), sql.Identifier(role)
        connection.execute(sql.SQL("create role {} login password 'p'").format(user))
        connection.execute(sql.SQL("grant create on database {} to {}").format(name, user))
        url = f"postgresql://{role}:p@{info.host}:{info.port}/{info.dbname}"
    migrate(url)
    migrate(url)
    with opened(url, redis_url) as drainer:
        model = new_id()
        assert drainer.take(event_body(model, at=T0)) == {"applied": 1}
        assert drainer.row(model)["status"] == "active"


def test_a_batch_costs_the_same_while_a_mirror_grows_that_was_never_analyzed(drainer: Drainer) -> None:
    for number in range(40):
        drainer.take(*[event_body(new_id(), at=minutes(number)) for _ in range(20)])
    drainer.engine.dispose()
    query = "select relname, seq_tup_read, idx_scan from pg_stat_user_tables where schemaname = 'headshotpro'"

    def counted() -> dict[str, tuple[int, int]]:
        return {row["relname"]: (row["seq_tup_read"], row["idx_scan"]) for row in rows(drainer.url, query)}

    # A session's counts are there some time after its end.
    assert eventually(lambda: counted()["webhook_events"][1] > 0)
    assert {table: read for table, (read, _) in counted().items() if read} == {}


LEFT_OVERS = {
    "prepared statements": "select name from pg_prepared_statements",
    "session locks": """
        select objid from pg_locks where locktype = 'advisory'
        and database = (select oid from pg_database where datname = current_database())
    """,
    "cursors": "select name from pg_cursors",
    "settings": "select name from pg_settings where setting <> reset_val and source = 'session'",
}


@pytest.mark.parametrize("direct", [True, False])
def test_nothing_outlives_a_transaction_on_its_connection(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch, *, direct: bool
) -> None:
    # Behind a pooler the next transaction may be on another connection, and the next user of this one is a stranger.
    if not direct:
        monkeypatch.setattr(database, "_is_direct", lambda _connection: False)
    for number in range(12):
        drainer.take(*[event_body(new_id(), at=minutes(number)) for _ in range(3)])
    with drainer.engine.connect() as connection:
        assert connection.execute(text("select count(*) from headshotpro.models")).scalar() == 36
        left = {name: connection.execute(text(query)).all() for name, query in LEFT_OVERS.items()}
    prepared = left.pop("prepared statements")
    assert bool(prepared) is direct, prepared
    assert not any(left.values()), left


def test_prepared_statements_outlive_a_migration_that_adds_columns(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_one_by_one(monkeypatch)
    model = new_id()
    for number in range(3):
        drainer.take(event_body(model, at=minutes(number), title=str(number)))
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        for table in ("models", "model_clocks", "model_changes", "webhook_events", "wishes"):
            connection.execute(f"alter table headshotpro.{table} add column brand_new text")
    assert drainer.take(event_body(model, at=minutes(4), title="after")) == {"applied": 1}
    assert drainer.row(model)["title"] == "after"

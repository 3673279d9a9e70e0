"""The drain in databases that are set up in other ways: zones, search paths, users, limits, poolers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from service.broker.inbox import Delivery
from service.errors import MirrorError, PostgresUnavailable, SettingsError
from service.mirror.drain import drain_spool
from service.storage import spool
from service.storage.database import transaction
from service.storage.migrations import schema
from service.storage.migrations.schema import migrate
from tests.support.drainer import T0, TOLERANCE, Drainer, minutes, opened
from tests.support.processes import eventually
from tests.support.servers import new_database
from tests.support.system import event_body, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_extreme_dates_do_no_harm_in_any_database_time_zone(drainer: Drainer, zone: str) -> None:
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set timezone = {}").format(name, zone))
    drainer.engine.dispose()
    for said in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"):
        model = new_id()
        assert drainer.take(event_body(model, at=T0, inviteExpiresAt=said)) == {"applied": 1}
        assert drainer.take(event_body(model, at=minutes(1), inviteExpiresAt=None, status="failed")) == {"applied": 1}
        assert drainer.row(model)["status"] == "failed"


ODD_SETTINGS = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "iso_8601",
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "search_path": "",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "200",
    "lock_timeout": "1",
    "timezone": "Asia/Kathmandu",
}
SLOW = """
    create function headshotpro.slow() returns trigger language plpgsql
    as 'begin perform pg_sleep(0.4); return new; end';
    create trigger slow before insert or update on headshotpro.models for each row execute function headshotpro.slow()
"""


@pytest.mark.parametrize("setting", [*ODD_SETTINGS, "all"])
def test_settings_of_the_database_change_nothing(drainer: Drainer, setting: str) -> None:
    odd = ODD_SETTINGS if setting == "all" else {setting: ODD_SETTINGS[setting]}
    # Limits may end what SQLAlchemy asks when it connects; that is tried again.
    odd = {name: value for name, value in odd.items() if setting != "all" or not name.endswith("_timeout")}
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        for option, value in odd.items():
            connection.execute(sql.SQL("alter database {} set {} = {}").format(name, sql.Identifier(option), value))
        if "statement_timeout" in odd:
            # What takes longer than that limit goes on all the same.
            connection.execute(SLOW)
    drainer.engine.dispose()
    model = new_id()
    told = {"title": "中文 é 😀", "createdAt": "2026-01-02T03:04:05.678Z", "inviteExpiresAt": "9999-12-31T23:59:59Z"}
    eventually(lambda: connects(drainer))
    assert drainer.take(event_body(model, at=T0, event_id="evt_1", **told)) == {"applied": 1}
    assert drainer.take(event_body(model, at=minutes(1), status="failed")) == {"applied": 1}
    with transaction(drainer.engine) as connection:
        (read,) = connection.execute(text("select title, status, observed_at from headshotpro.models")).all()
    assert tuple(read) == (told["title"], "failed", minutes(1))
    with transaction(drainer.engine) as connection:
        spool.put(connection, Delivery.arrived(event_body(model, at=minutes(2)), int(T0.timestamp()), T0))
    assert drain_spool(drainer.engine, TOLERANCE).results == {"applied": 1}


def connects(drainer: Drainer) -> bool:
    try:
        with transaction(drainer.engine):
            return True
    except PostgresUnavailable:
        return False


@pytest.fixture
def latin_url(postgres: Postgres) -> Iterator[str]:
    """An empty database that has 191 letters."""
    name = f"latin_{new_id()}"
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} encoding 'LATIN1' locale 'C' template template0")
    yield postgres.url_of(name)
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


def test_migrate_refuses_a_database_of_another_encoding(latin_url: str) -> None:
    with pytest.raises(MirrorError, match=r"the encoding LATIN1.*ENCODING 'UTF8'") as refused:
        migrate(latin_url)
    assert not isinstance(refused.value, SettingsError)
    assert "\n" not in str(refused.value)
    assert rows(latin_url, "select to_regnamespace('headshotpro') as made") == [{"made": None}]


def test_a_title_that_a_latin1_database_has_not_blocks_no_event(
    latin_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Migrated by a release that did not look.
    monkeypatch.setattr(schema, "_refuse_other_encodings", lambda _connection: None)
    migrate(latin_url)
    with opened(latin_url, redis_url) as drainer:
        good, bad, odd = new_id(), new_id(), new_id()
        results = drainer.take(
            event_body(good, at=T0, title="Zoë"),
            event_body(bad, at=T0, event_id="evt_bad", title="中文"),
            event_body(odd, at=T0, event_id="evt_中"),
        )
        assert results == {"applied": 1, "dead": 2}
        assert drainer.row(good)["title"] == "Zoë"
        event = drainer.event("evt_bad")
        assert (event["status"], json.loads(event["payload"])["object"]["title"]) == ("dead", "中文")
        dead = rows(latin_url, "select id from headshotpro.webhook_events where status = 'dead' order by id")
        assert dead[1]["id"].startswith("sha256:")
        asked = rows(latin_url, "select model_id from headshotpro.refetch_requests where reason = 'dead_event'")
        assert {row["model_id"] for row in asked} == {bad, odd}
        drainer.assert_empty()


def test_dead_payload_that_postgres_rejects_is_kept_as_text(drainer: Drainer) -> None:
    # How deep Postgres reads JSON depends on its stack.
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
        for table in (
            "models",
            "model_clocks",
            "model_changes",
            "webhook_events",
            "refetch_requests",
            "alembic_version",
        ):
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


@pytest.fixture
def new_drainer(postgres: Postgres, redis_url: str) -> Iterator[Drainer]:
    """A drain over a database whose statistics count no other test's rows."""
    with new_database(postgres) as url, opened(url, redis_url) as drainer:
        yield drainer


def test_batches_never_scan_tables_of_an_unanalyzed_mirror(new_drainer: Drainer) -> None:
    drainer = new_drainer
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


def test_nothing_outlives_a_transaction_on_its_connection(drainer: Drainer) -> None:
    # Behind a pooler the next transaction may be on another connection, and the next user of this one is a stranger.
    for number in range(12):
        drainer.take(*[event_body(new_id(), at=minutes(number)) for _ in range(3)])
    with drainer.engine.connect() as connection:
        assert connection.execute(text("select count(*) from headshotpro.models")).scalar() == 36
        left = {name: connection.execute(text(query)).all() for name, query in LEFT_OVERS.items()}
    # psycopg sets these two when it connects, as any client does.
    left["settings"] = [row for row in left["settings"] if row[0] not in {"application_name", "client_encoding"}]
    assert not any(left.values()), left

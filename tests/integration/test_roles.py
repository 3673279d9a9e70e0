"""Least privilege: what `docs/operations/roles.md` grants is enough for the whole system, and not more."""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from service.mirror.drain import drain_spool
from service.mirror.retention import RetentionLimits, apply_limits
from service.storage import database
from service.storage.migrations.schema import migrate, newest, script
from tests.support.drainer import TOLERANCE
from tests.support.processes import eventually
from tests.support.system import ROOT, WEBHOOK_PATH, System, event_body, model_row, new_id, rows, signed
from tests.support.vendor import SandboxClient
from tests.support.webhook_endpoint import client_of, post

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.local.servers import Postgres, Valkey
    from tests.conftest import StartSandbox

PAGE = (ROOT / "docs" / "operations" / "roles.md").read_text()


def blocks(language: str) -> list[str]:
    """The page's fenced blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def as_user(url: str, user: str, password: str) -> str:
    """The same server by another login."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))


@contextmanager
def roles_of_the_page(url: str) -> Iterator[psycopg.Connection]:
    """A database as a DBA makes it by the page before the first `migrate`: the DBA's connection."""
    with psycopg.connect(url, autocommit=True) as dba:
        dba.execute(blocks("sql")[0].encode())
        try:
            yield dba
        finally:
            # Roles belong to the server, which other tests use too; what runs under them has ended by now.
            dba.execute("drop owned by mirror_app, mirror_owner cascade")
            dba.execute("drop role mirror_app")
            dba.execute("drop role mirror_owner")


@pytest.fixture
def app_url(postgres: Postgres, empty_database_url: str) -> Iterator[str]:
    """A database of the page, migrated by its owner: the application's URL."""
    with roles_of_the_page(empty_database_url) as dba:
        migrate(as_user(empty_database_url, "mirror_owner", "choose%20one"))
        dba.execute(blocks("sql")[1].encode())
        yield as_user(empty_database_url, "mirror_app", "choose%20another")


@pytest.fixture
def redis_urls(own_valkey: Valkey) -> dict[str, str]:
    """A Redis with the page's users: the URL of each."""
    (lines,) = blocks("acl")
    users = [line.split()[1:] for line in lines.splitlines()]
    with redis.Redis.from_url(own_valkey.url) as client:
        for words in users:
            client.execute_command("ACL", "SETUSER", *words)
    return {name: as_user(own_valkey.url, name, password[1:]) for name, _on, password, *_ in users}


@pytest.mark.long
def test_the_whole_system_runs_with_the_pages_rights(
    folder: Path, app_url: str, redis_urls: dict[str, str], own_valkey: Valkey, sandbox: StartSandbox
) -> None:
    vendor = sandbox(models=30, quiet=True, rate=0)
    settings = {
        "DATABASE_URL": app_url,
        "REDIS_URL": redis_urls["mirror_worker"],
        "HEADSHOTPRO_API_URL": vendor.url,
        "HEADSHOTPRO_API_KEY": vendor.api_key,
        "HEADSHOTPRO_WEBHOOK_SECRET": vendor.webhook_secret,
        "PULL_INTERVAL_SECONDS": "1",
    }
    (folder / "processes").mkdir()
    with System(folder / "processes", **settings) as system:
        for role in ("worker", "clock"):
            system.start(role)
        system.settings["REDIS_URL"] = redis_urls["mirror_web"]
        system.start("web")
        system.wait_for_web()
        readyz = system.get("/readyz")
        assert readyz.status == 200
        assert b"survives a power cut" in readyz.data
        body = event_body(new_id(), "model.deleted", event_id="evt_1")
        assert system.post(body, signed(body, secret=vendor.webhook_secret)).status == 202
        query = "select status from headshotpro.webhook_events where id = 'evt_1'"
        assert eventually(lambda: rows(app_url, query) == [{"status": "applied"}]), system.logs()
        complete = "select kind from headshotpro.pulls where status = 'complete' and models_seen = 30"
        assert eventually(lambda: rows(app_url, complete)), system.logs()
        caller = SandboxClient(vendor)
        caller.control("POST", "/webhook", {"url": system.url + WEBHOOK_PATH})
        model = caller.control("GET", "/models")[0]["id"]
        caller.control("DELETE", f"/models/{model}?events=1")
        assert eventually(lambda: (model_row(app_url, model) or {})["status"] == "deleted"), system.logs()
        assert "permission" not in system.logs().lower()
    with redis.Redis.from_url(own_valkey.url) as client:
        assert client.acl_log() == []
    # Where Redis is unavailable, the spool is written and read.
    assert post(client_of(folder, DATABASE_URL=app_url), event_body(new_id())).status_code == 202
    engine = database.connect(app_url)
    assert drain_spool(engine, TOLERANCE).results == {"applied": 1}
    assert apply_limits(engine, RetentionLimits(events=0, history=1, personal=0), 30)
    engine.dispose()
    assert rows(app_url, "select count(*) from headshotpro.webhook_events") == [{"count": 0}]
    assert model_row(app_url, model)["erased_at"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("mirror_web", "XREADGROUP GROUP drain me STREAMS headshotpro:inbox >"),
        ("mirror_web", "XDEL headshotpro:inbox 1-1"),
        ("mirror_web", "XTRIM headshotpro:inbox MAXLEN 0"),
        ("mirror_web", "LPOP rq:queue:headshotpro-drain"),
        ("mirror_web", "GET rq:wip:headshotpro-drain"),
        ("mirror_web", "GET elsewhere"),
        ("mirror_worker", "XADD headshotpro:inbox * body forged"),
        ("mirror_worker", "GET elsewhere"),
        ("mirror_worker", "SET elsewhere 1"),
        *(
            (user, command)
            for user in ("mirror_web", "mirror_worker")
            for command in ("FLUSHALL", "KEYS *", "ACL LIST", "CONFIG SET appendfsync no", "PUBLISH elsewhere x")
        ),
    ],
)
def test_a_login_of_redis_is_refused_what_is_not_its_work(redis_urls: dict[str, str], user: str, command: str) -> None:
    with redis.Redis.from_url(redis_urls[user]) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


REFUSED = (
    "create table headshotpro.mine (id int)",
    "create table public.mine (id int)",
    "drop table headshotpro.models",
    "alter table headshotpro.models add column mine int",
    "truncate headshotpro.models",
    "create view headshotpro.mine as select 1",
    "update headshotpro.alembic_version set version_num = 'mine'",
    "create schema mine",
    "create role mine",
)


def test_the_application_may_change_rows_and_nothing_else(app_url: str) -> None:
    with psycopg.connect(app_url, autocommit=True) as connection:
        for statement in REFUSED:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_the_owner_of_the_schema_may_run_what_is_printed(postgres: Postgres, empty_database_url: str) -> None:
    owner = as_user(empty_database_url, "mirror_owner", "choose%20one")
    psql = [postgres.binary.program.with_name("psql"), "-qX", "-v", "ON_ERROR_STOP=1", owner]
    with roles_of_the_page(empty_database_url):
        subprocess.run(psql, input=script(), text=True, check=True, timeout=60)
        assert migrate(owner) == newest()

"""Real servers for every test: one Postgres and one Valkey for each test process, a fresh database for each test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from service.config import force_wheels
from service.embedded import Postgres, Valkey
from service.leash import leashed

if TYPE_CHECKING:
    from tests.support.drainer import Drainer

TEMPLATE = "migrated_template"
FORCE_WHEELS = force_wheels()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for one test's servers, gone afterwards: pytest's own `tmp_path` keeps those of three runs."""
    with _folder() as path:
        yield path


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hm-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """This test process's Postgres. Stop or kill `own_postgres`, never this one."""
    with _folder() as path, Postgres.start(path, durable=False, force_wheels=FORCE_WHEELS) as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """This test process's Valkey. Stop or kill `own_valkey`, never this one."""
    with _folder() as path, Valkey.start(path, sync="no", force_wheels=FORCE_WHEELS) as server:
        yield server


@pytest.fixture(scope="session")
def _template(postgres: Postgres) -> str:
    """The schema, migrated once; a clone of it is ten times quicker than a migration."""
    from service.storage.schema import migrate

    with _admin(postgres) as connection:
        connection.execute(f"create database {TEMPLATE}")
    migrate(postgres.url_of(TEMPLATE))
    return TEMPLATE


@contextmanager
def _admin(server: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        yield connection


@contextmanager
def _database(server: Postgres, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with _admin(server) as connection:
        connection.execute(f"create database {name} template {template}")
    try:
        yield server.url_of(name)
    finally:
        with _admin(server) as connection:
            connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def database_url(postgres: Postgres, _template: str) -> Iterator[str]:
    """A database of this test alone, with the newest schema and no rows."""
    with _database(postgres, _template) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """A database of this test alone, without a schema."""
    with _database(postgres, "template0") as url:
        yield url


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """This test process's Valkey, emptied."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest.fixture
def drainer(database_url: str, redis_url: str) -> Iterator[Drainer]:
    """A drain over servers of this test alone."""
    from tests.support.drainer import opened

    with opened(database_url, redis_url) as found:
        yield found


@pytest.fixture
def own_postgres(folder: Path) -> Iterator[Postgres]:
    """A Postgres of this test alone, unmigrated: it may be killed, which loses no commit, and started again."""
    with Postgres.start(folder / "postgres", durable=False, force_wheels=FORCE_WHEELS) as server:
        yield server


@pytest.fixture
def own_valkey(folder: Path) -> Iterator[Valkey]:
    """A Valkey of this test alone, with `appendfsync always`: it may be killed and started again."""
    with Valkey.start(folder / "valkey", force_wheels=FORCE_WHEELS) as server:
        yield server


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox vendor.

    Attributes:
        url: base of its API, for HEADSHOTPRO_API_URL.
        api_key: its bearer key.
        webhook_secret: what it signs webhooks with.
        control_url: base of the switches that tests turn.
        process: it.
    """

    url: str
    api_key: str
    webhook_secret: str
    control_url: str
    process: subprocess.Popen[str]


StartSandbox = Callable[..., Sandbox]


@pytest.fixture
def sandbox() -> Iterator[StartSandbox]:
    """Starts sandboxes: `sandbox(models=50, webhook_url=…, drift=True)`; an option is named as on its command line."""
    started: list[subprocess.Popen[str]] = []

    def start(**options: object) -> Sandbox:
        command = [sys.executable, "-m", "service.sandbox", "--port", "0", *_as_arguments(options)]
        process = subprocess.Popen(leashed(command, SIGTERM), stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the sandbox ended with {process.wait()} before it said where it listens"
        told = json.loads(line)
        control = told["url"].removesuffix("/api/v2") + "/_sandbox"
        return Sandbox(told["url"], told["api_key"], told["webhook_secret"], control, process)

    yield start
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _as_arguments(options: dict[str, object]) -> Iterator[str]:
    for name, value in options.items():
        if value is False or value is None:
            continue
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield str(value)

"""Real servers for every test: one Postgres and one Valkey for each test process, a fresh database for each test."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import redis
from hypothesis import settings

from service.config import force_wheels
from service.embedded import Postgres, Valkey
from tests.support.sandboxes import Sandbox, Sandboxes, StartSandbox
from tests.support.servers import TEMPLATE, admin, new_postgres, share_folder, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.drainer import Drainer

__all__ = ["Sandbox", "StartSandbox"]

FORCE_WHEELS = force_wheels()


# Every run of the tests meets the same examples, on a busy machine too; `make fuzz` searches for others.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None, database=None, print_blob=True)
settings.load_profile("steady")


def pytest_configure() -> None:
    """Make what the test processes of this run share before they are started."""
    share_folder()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for one test's servers, gone afterwards: pytest's own `tmp_path` keeps those of three runs."""
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """This test process's Postgres. Stop or kill `own_postgres`, never this one."""
    with temporary_folder() as path, new_postgres(path / "postgres", migrated=True) as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """This test process's Valkey. Stop or kill `own_valkey`, never this one."""
    with temporary_folder() as path, Valkey.start(path, sync="no", force_wheels=FORCE_WHEELS) as server:
        yield server


@contextmanager
def _database(server: Postgres, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with admin(server) as connection:
        connection.execute(f"create database {name} template {template}")
    try:
        yield server.url_of(name)
    finally:
        with admin(server) as connection:
            connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """A database of this test alone, with the newest schema and no rows."""
    with _database(postgres, TEMPLATE) as url:
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
    with new_postgres(folder / "postgres") as server:
        yield server


@pytest.fixture
def own_valkey(folder: Path) -> Iterator[Valkey]:
    """A Valkey of this test alone, with `appendfsync always`: it may be killed and started again."""
    with Valkey.start(folder / "valkey", force_wheels=FORCE_WHEELS) as server:
        yield server


@pytest.fixture(scope="session")
def _sandboxes() -> Iterator[Sandboxes]:
    pool = Sandboxes()
    yield pool
    pool.close()


@pytest.fixture
def sandbox(_sandboxes: Sandboxes) -> Iterator[StartSandbox]:
    """Starts sandboxes: `sandbox(models=50, webhook_url=…, drift=True)`; an option is named as on its command line."""
    started: list[tuple[Sandbox, dict[str, object]]] = []

    def start(**options: object) -> Sandbox:
        started.append((_sandboxes.take(options), options))
        return started[-1][0]

    yield start
    for running, options in started:
        _sandboxes.give_back(running, options)

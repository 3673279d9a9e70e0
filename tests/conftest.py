"""Real servers for every test: one Postgres and one Valkey for each test process, an empty database for each test."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
import structlog
from hypothesis import settings

from service import redaction
from service.config import force_wheels
from service.local.servers import Postgres, Valkey
from tests.support.databases import Databases
from tests.support.sandboxes import Sandbox, Sandboxes, StartSandbox
from tests.support.servers import (
    REDIS_DATABASES,
    ManyDatabases,
    new_database,
    new_postgres,
    share_folder,
    temporary_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.drainer import Drainer

__all__ = ["Sandbox", "StartSandbox"]

FORCE_WHEELS = force_wheels()
LONGEST_NAME = 80
# Where files need no disk. Containers often give it 64 MiB; else it has half of the machine's memory.
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 * 2**30  # noqa: S108 - `share_folder` makes one of its own in it
# Those whose level `service.log` sets; the first is the root.
CONFIGURED_LOGGERS = (None, "apprise", "psycopg", "urllib3", "rq", "rq.worker", "rq.job", "alembic", "gunicorn.access")


# Every run of the tests meets the same examples, on a busy machine too; `make fuzz` searches for others.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None, database=None, print_blob=True)
settings.load_profile("steady")


# A shell without job control starts `make test &` with SIGINT ignored, and each command of a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """Make what the test processes of this run share before they are started, and set up their logging."""
    # All temporary files go into memory, where there is room: a copy of a server costs a quarter of the processor time.
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(share_folder(MEMORY))
    share_folder()
    # By default structlog prints to stdout, debug lines as well: those of a thread that an earlier test left would be
    # taken for the output of a command.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Each logs requests, as lines among those of the code under test: their paths may be its secrets.
    for name in ("werkzeug", "mail.log"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
        # Without one werkzeug adds its own, on the stderr of the test that happens to run.
        logging.getLogger(name).addHandler(logging.NullHandler())


def pytest_sessionstart() -> None:
    """Collect no garbage while tests are imported: they stay until the end."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep what was imported out of every later collection of garbage, which would take a tenth of the run."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Search for no garbage once more at the end of each test process, which takes it half a second."""
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long text is no name: it may hold an id of this moment, and all test processes must name tests alike."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_NAME else None


@pytest.fixture(autouse=True)
def _unpatched_by_gevent() -> Iterator[None]:
    """Fails the test that lets gevent patch this process: others, and pytest itself, then wait for ever."""
    yield
    monkey = sys.modules.get("gevent.monkey")
    assert monkey is None or not monkey.is_anything_patched()


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """Undoes the logging of a test's settings: its handlers write to a stderr that ends with it, and fail later.

    Its secrets are forgotten, too: a later test that logs them would pass because of this one.
    """
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in CONFIGURED_LOGGERS}
    config, secrets = structlog.get_config(), redaction._variants
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.configure(**config)
    redaction._variants = secrets


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for one test's servers, gone afterwards: pytest's own `tmp_path` keeps those of three runs."""
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """This test process's Postgres, with the newest schema. Stop or kill `own_postgres`, never this one."""
    with temporary_folder() as path, new_postgres(path / "postgres", migrated=True) as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """This test process's Valkey. Stop or kill `own_valkey`, never this one."""
    with temporary_folder() as path, ManyDatabases.start(path, sync="no", force_wheels=FORCE_WHEELS) as server:
        yield server


@pytest.fixture(scope="session")
def _valkey_client(valkey: Valkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture(scope="session")
def _databases(postgres: Postgres) -> Iterator[Databases]:
    pool = Databases(postgres)
    yield pool
    pool.close()


@pytest.fixture
def database_url(postgres: Postgres, _databases: Databases) -> Iterator[str]:
    """A database of this test alone, with the newest schema and no rows."""
    name = _databases.take()
    yield postgres.url_of(name)
    _databases.release(name)


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """A database of this test alone, without a schema."""
    with new_database(postgres, "template0") as url:
        yield url


# Those before are for tests that need a second one.
_redis_databases = cycle(range(16, REDIS_DATABASES))
_released_at: dict[int, float] = {}
# Threads of a test that has ended send its last counts within a second, to the database that it had.
_LAST_COUNTS_SECONDS = 2.0


@pytest.fixture
def redis_url(valkey: Valkey, _valkey_client: redis.Redis) -> Iterator[str]:
    """An empty database of this test process's Valkey, another one for each test.

    The same one comes again after hundreds of tests, and after the last counts of the test that had it have arrived.
    """
    number = next(_redis_databases)
    since = time.monotonic() - _released_at.get(number, -_LAST_COUNTS_SECONDS)
    time.sleep(max(0.0, _LAST_COUNTS_SECONDS - since))
    _valkey_client.flushall()
    yield f"{valkey.url.removesuffix('/0')}/{number}"
    _released_at[number] = time.monotonic()


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
def own_migrated_postgres(folder: Path) -> Iterator[Postgres]:
    """`own_postgres` with the newest schema."""
    with new_postgres(folder / "postgres", migrated=True) as server:
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
        _sandboxes.release(running, options)

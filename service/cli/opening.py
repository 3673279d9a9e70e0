"""What commands open: the mirror's database to read from, or a whole runtime. An older schema ends them in one line."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from service import config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from service.runtime import Runtime

# What a command needs that talks to the upstream.
REQUIRED_SETTINGS = ("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY")


def open_engine() -> Engine:
    """The mirror's database.

    Raises:
        SettingsError: no database is set.
        SchemaOutdated: its schema is older than the code.
        PostgresUnavailable: Postgres cannot be reached.
    """
    from service.storage import database
    from service.storage.migrations import revision

    engine = database.connect(config.load(("DATABASE_URL",)).postgres_url, pool_size=1)
    revision.check(engine)
    return engine


@contextmanager
def reading() -> Iterator[Connection]:
    """A transaction on the mirror's database; raises what `open_engine` raises."""
    from service.storage import database

    with database.transaction(open_engine()) as connection:
        yield connection


def open_runtime() -> Runtime:
    """Logs and connections of a command that talks to the upstream; raises what `open_engine` raises."""
    from service import log
    from service.runtime import Runtime
    from service.storage.migrations import revision

    settings = config.load(REQUIRED_SETTINGS)
    log.configure(settings)
    runtime = Runtime.build(settings)
    revision.check(runtime.engine)
    return runtime

"""What a stretch of work costs the two servers: WAL, dead tuples, statements; commands and reads of Redis."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg

if TYPE_CHECKING:
    import redis

    from service.local.servers import Postgres


class Cost(NamedTuple):
    """What a stretch of work cost.

    Attributes:
        wal: bytes.
        dead: row versions that updates and deletes left behind.
        statements: that Postgres ran for clients, begins and commits included; None where it cannot count them.
        commands: that Redis ran, those in scripts included.
        reads: of Redis' sockets: about one for each round trip, more where a command is long.
    """

    wal: int
    dead: int
    statements: int | None
    commands: int
    reads: int


class Meter(AbstractContextManager["Meter"]):
    """Measures the block.

    Args:
        url: the database.
        client: a connection to Redis.

    Attributes:
        cost: known when the block has ended.
    """

    cost: Cost

    def __init__(self, url: str, client: redis.Redis) -> None:
        self._url = url
        self._client: Any = client
        self._looks, self._looked = 0, 0

    def exclude(self, commands: int) -> None:
        """A round trip with so many commands was the bench's own."""
        self._looks += 1
        self._looked += commands

    def __enter__(self) -> Self:
        with psycopg.connect(self._url, autocommit=True) as connection:
            # Statistics of this database, and of all statements where the server counts them.
            connection.execute("select pg_stat_reset()")
            self._counts = bool(
                connection.execute("select from pg_extension where extname = 'pg_stat_statements'").rowcount
            )
            if self._counts:
                connection.execute("select pg_stat_statements_reset()")
            (self._began,) = _one(connection, "select pg_current_wal_insert_lsn()")
        self._client.config_resetstat()
        return self

    def __exit__(self, *_error: object) -> None:
        stats = self._client.info("commandstats")
        commands = sum(stat["calls"] for stat in stats.values())
        reads = self._client.info("stats").get("total_reads_processed", 0)
        with psycopg.connect(self._url, autocommit=True) as connection:
            (wal,) = _one(connection, f"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{self._began}')::bigint")
            (dead,) = _one(connection, DEAD)
            statements = _one(connection, STATEMENTS)[0] if self._counts else None
        self.cost = Cost(wal, dead, statements, commands - self._looked, reads - self._looks)


DEAD = "select coalesce(sum(n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables"
STATEMENTS = """
    select coalesce(sum(calls), 0)::bigint from pg_stat_statements(false) as counted
    where dbid = (select oid from pg_database where datname = current_database())
"""


def count_statements(postgres: Postgres) -> None:
    """Let the server count statements, where it has what it takes; it is started anew for that."""
    available = "select from pg_available_extensions where name = 'pg_stat_statements'"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        if not connection.execute(available).rowcount:
            return
        connection.execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
        connection.execute("alter system set pg_stat_statements.track_planning = off")
    postgres.restart()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("create extension pg_stat_statements")


def _one(connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] | None = connection.execute(query.encode()).fetchone()
    assert found is not None
    return found

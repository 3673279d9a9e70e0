"""Databases for tests: a test process empties one between two tests; making one takes longer than most tests do."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import sql

from tests.support.servers import TEMPLATE, create_database, drop_database

if TYPE_CHECKING:
    from service.local.servers import Postgres

# Deleted rows take room until a vacuum and slow down each scan, so a database does not serve for ever.
LARGEST_BYTES = 4_000_000
DISCONNECT_SECONDS = 5.0

# The objects that a test can change beside rows. Each has the number of the transaction that wrote it.
OBJECTS = """
    with written (place, oid, xmin) as (
        select 1, oid, xmin from pg_class where oid >= 16384
        union all select 2, attrelid, xmin from pg_attribute where attrelid >= 16384
        union all select 3, oid, xmin from pg_proc where oid >= 16384
        union all select 4, oid, xmin from pg_rewrite where oid >= 16384
        union all select 5, oid, xmin from pg_type where oid >= 16384
        union all select 6, starelid, xmin from pg_statistic where starelid >= 16384
        union all select 7, oid, xmin from pg_constraint
        union all select 8, oid, xmin from pg_trigger
        union all select 9, oid, xmin from pg_namespace
        union all select 10, oid, xmin from pg_extension
        union all select 11, oid, xmin from pg_default_acl
        union all select 12, oid, xmin from pg_event_trigger
        union all select 13, oid, xmin from pg_largeobject_metadata
        union all select 14, setrole, s.xmin from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
            where d.datname = current_database()
    )
    select count(*), sum(hashtext(format('%s %s %s', place, oid, xmin))),
        (select (datacl, datallowconn, datconnlimit, datdba)::text from pg_database
         where datname = current_database())
    from written
"""
IN_SCHEMA = "from pg_class where relkind = %s and relnamespace = 'headshotpro'::regnamespace order by oid"
# Each table and the bytes of its file and of that with its long values. Postgres' own functions of sizes open each
# table and index, which takes longer than to delete the rows.
SIZES = """
    select oid::regclass::text, (pg_stat_file(pg_relation_filepath(oid))).size,
        (pg_stat_file(pg_relation_filepath(reltoastrelid))).size
    from pg_class where relkind = 'r' and relnamespace = 'headshotpro'::regnamespace
"""
TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"


class _Schema(NamedTuple):
    """The objects and rows of the template of all databases.

    Attributes:
        objects: count and digest of all objects, and who may do what with the database.
        sequences: their names.
        rows: those that the migrations wrote, by table, in the form of COPY.
    """

    objects: Any
    sequences: list[str]
    rows: dict[str, bytes]


class Databases:
    """The databases of one test process, each with the newest schema.

    A database gets a new name for each test: what an earlier test left running reaches none.

    Args:
        server: one of `new_postgres`, migrated.
    """

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._admin = psycopg.connect(server.url_of("postgres"), autocommit=True)
        self._idle: list[str] = []
        self._schema: _Schema | None = None

    def take(self) -> str:
        """The name of a database without rows."""
        if self._idle:
            return self._idle.pop()
        name = _new_name()
        create_database(self._server, self._admin, name, TEMPLATE)
        return name

    def release(self, name: str) -> None:
        """The test is over: keep its database for the next one, unless the test changed more than rows."""
        with suppress(psycopg.Error, TimeoutError):
            self._disconnect_all(name)
            # What the test left running does not know this name, so it can neither write rows nor stay connected.
            new_name = _new_name()
            self._execute("alter database {} rename to {}", name, new_name)
            name = new_name
            if self._empty(name):
                self._idle.append(name)
                return
        drop_database(self._admin, name)

    def close(self) -> None:
        """End the connection to the server, which ends with its databases."""
        self._admin.close()

    def _execute(self, query: str, *names: str) -> None:
        self._admin.execute(sql.SQL(query).format(*map(sql.Identifier, names)))

    def _disconnect_all(self, name: str) -> None:
        """End what the test left; Postgres itself looks for that ten times a second only.

        Raises:
            TimeoutError: a connection does not end.
        """
        deadline = time.monotonic() + DISCONNECT_SECONDS
        while self._admin.execute(TERMINATE, [name]).rowcount:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.002)

    def _empty(self, name: str) -> bool:
        """Give a database the rows of the template; False where it differs in more than that."""
        with psycopg.connect(self._server.url_of(name), autocommit=True) as connection:
            schema = self._read_schema()
            found = connection.execute(OBJECTS).fetchone()
            sizes = connection.execute(SIZES).fetchall()
            if found != schema.objects or sum(size + (long or 0) for _, size, long in sizes) > LARGEST_BYTES:
                return False
            # No trigger acts, and the order of the tables does not matter.
            statements = ["set session_replication_role = replica"]
            # A table without a page never had a row.
            statements += [f"delete from {table}" for table, size, _ in sizes if size]
            statements += [f"select setval('{sequence}', 1, false)" for sequence in schema.sequences]
            connection.execute("; ".join(statements).encode())
            for table, rows in schema.rows.items():
                with connection.cursor().copy(f"copy {table} from stdin".encode()) as copy:
                    copy.write(rows)
        return True

    def _read_schema(self) -> _Schema:
        if self._schema is None:
            with psycopg.connect(self._server.url_of(TEMPLATE), autocommit=True) as connection:
                objects = connection.execute(OBJECTS).fetchone()
                tables, sequences = [
                    [row[0] for row in connection.execute(f"select oid::regclass::text {IN_SCHEMA}", [kind])]
                    for kind in ("r", "S")
                ]
                rows = {}
                for table in tables:
                    with connection.cursor().copy(f"copy {table} to stdout".encode()) as copy:
                        rows[table] = b"".join(copy)
            self._schema = _Schema(objects, sequences, {table: text for table, text in rows.items() if text})
        return self._schema


def _new_name() -> str:
    return f"test_{uuid.uuid4().hex}"

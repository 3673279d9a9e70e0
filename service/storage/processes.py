"""`processes`: the heartbeats of web, worker and clock. Every time is of Postgres' clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.process_identity import ALIVE_SECONDS
from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection

RETENTION_DAYS = 1


class ProcessRow(NamedTuple):
    """A web, worker or clock process."""

    name: str
    kind: str
    host: str
    version: str


def beat(connection: Connection, process: ProcessRow, age: float) -> None:
    """Note that a process lives now; `age` is the seconds since it started."""
    statement = """
        INSERT INTO headshotpro.processes (name, kind, host, version, started_at, seen_at)
        VALUES (:name, :kind, :host, :version, now() - make_interval(secs => :age), now())
        ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at
    """
    queries.run(connection, statement, **process._asdict(), age=age)


def remove(connection: Connection, name: str) -> None:
    """Remove a process that stops."""
    queries.run(connection, "DELETE FROM headshotpro.processes WHERE name = :name", name=name)


def delete_unseen(connection: Connection) -> None:
    """Remove the rows of processes that died without a word a day ago."""
    statement = "DELETE FROM headshotpro.processes WHERE seen_at < now() - make_interval(days => :days)"
    queries.run(connection, statement, days=RETENTION_DAYS)


def list_rows(connection: Connection) -> list[dict[str, Any]]:
    """Every row, by kind and name."""
    statement = "SELECT name, kind, host, version, started_at, seen_at FROM headshotpro.processes ORDER BY kind, name"
    return queries.rows(connection, statement)


def count_alive(connection: Connection) -> dict[str, int]:
    """How many processes of each kind sent a heartbeat within `ALIVE_SECONDS`."""
    statement = (
        "SELECT kind, count(*) FROM headshotpro.processes "
        "WHERE seen_at > now() - make_interval(secs => :seconds) GROUP BY kind"
    )
    return {row[0]: row[1] for row in queries.execute(connection, statement, seconds=ALIVE_SECONDS)}

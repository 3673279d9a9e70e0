"""`organization`: the one that this database mirrors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection


class MirroredOrganization(NamedTuple):
    """The vendor's uid of an organization, and its name where the vendor gave one."""

    uid: str
    name: str | None

    def __str__(self) -> str:
        return f"{self.name} ({self.uid})" if self.name else self.uid


def read(connection: Connection) -> MirroredOrganization | None:
    """The mirrored organization; None before the first full pull."""
    row = queries.execute(connection, "SELECT uid, name FROM headshotpro.organization").one_or_none()
    return None if row is None else MirroredOrganization(row.uid, row.name)


def mirrored(connection: Connection, uid: str, name: str | None) -> str:
    """The uid of the organization that this database mirrors; the first one that is given becomes it."""
    statement = """
        INSERT INTO headshotpro.organization (uid, name, recorded_at)
        SELECT :uid, :name, now() WHERE NOT EXISTS (SELECT FROM headshotpro.organization)
    """
    queries.run(connection, statement, uid=uid, name=name)
    return str(queries.value(connection, "SELECT uid FROM headshotpro.organization"))


def accept(connection: Connection, uid: str, name: str | None) -> None:
    """Make another organization the mirrored one, as a person decided."""
    statement = "UPDATE headshotpro.organization SET uid = :uid, name = :name, recorded_at = now()"
    queries.run(connection, statement, uid=uid, name=name)

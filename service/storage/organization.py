"""`organization`: the one that this database mirrors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

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
    row = connection.execute(text("SELECT uid, name FROM headshotpro.organization")).one_or_none()
    return None if row is None else MirroredOrganization(row.uid, row.name)


def mirrored(connection: Connection, uid: str, name: str | None) -> str:
    """The uid of the organization that this database mirrors; the first one that is given becomes it."""
    connection.execute(
        text(
            """
            INSERT INTO headshotpro.organization (uid, name, recorded_at)
            SELECT :uid, :name, now() WHERE NOT EXISTS (SELECT FROM headshotpro.organization)
            """
        ),
        {"uid": uid, "name": name},
    )
    return str(connection.execute(text("SELECT uid FROM headshotpro.organization")).scalar_one())


def accept(connection: Connection, uid: str, name: str | None) -> None:
    """Make another organization the mirrored one, as a person decided."""
    statement = text("UPDATE headshotpro.organization SET uid = :uid, name = :name, recorded_at = now()")
    connection.execute(statement, {"uid": uid, "name": name})

"""`organization`: the one that this database mirrors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection


def mirrored(connection: Connection, uid: str, name: str | None) -> str:
    """The uid of the organization that this database mirrors; the first one asked about becomes it."""
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


def accept(connection: Connection, uid: str) -> None:
    """Make another organization the mirrored one: a person said so."""
    connection.execute(text("UPDATE headshotpro.organization SET uid = :uid, recorded_at = now()"), {"uid": uid})

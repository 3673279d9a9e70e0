"""Suspects: live models that no API response showed since a pull began; a person decides about some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.storage import queries

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

# Models whose row Postgres refused: that moves no clock. The pull set them aside, or a hot one that ran meanwhile.
_REFUSED = """
    FROM headshotpro.set_aside AS s
    WHERE s.last_pull_id >= :pull_id AND s.model_id IS NOT NULL AND cardinality(s.fields) = 0
"""
# An API response moves `profile_at` whenever it shows a model; one created since the pull began need not be in it. A
# creation time in the future is no time: it would keep a model that does not exist from ever being read.
_NOT_SHOWN = f"""
    FROM headshotpro.models AS m JOIN headshotpro.model_clocks AS c ON c.model_id = m.id
    WHERE (c.profile_at IS NULL OR c.profile_at < :began_at)
        AND (m.created_at IS NULL OR m.created_at < :began_at
            OR m.created_at > greatest(now(), :began_at) + interval '5 minutes')
        AND m.id NOT IN (SELECT s.model_id {_REFUSED})
"""
_SUSPECT = f"""
    {_NOT_SHOWN} AND m.status IS DISTINCT FROM 'deleted' AND NOT EXISTS (
        SELECT FROM headshotpro.held_suspects AS h
        WHERE h.model_id = m.id AND (h.kept_until IS NULL OR h.kept_until > now())
    )
"""


def list_above(connection: Connection, pull_id: int, began_at: datetime, above: str, limit: int) -> list[str]:
    """Suspects of a pull whose first page was sent at an upstream time; in id order, above an id."""
    statement = f"SELECT m.id {_SUSPECT} AND m.id > :above ORDER BY m.id LIMIT :limit"
    return queries.column(connection, statement, pull_id=pull_id, began_at=began_at, above=above, limit=limit)


def count(connection: Connection, pull_id: int, began_at: datetime) -> tuple[int, int]:
    """How many there are that no person decides about, and how many live models."""
    statement = (
        f"SELECT (SELECT count(*) {_SUSPECT}), "  # noqa: S608 - constant
        "(SELECT count(*) FROM headshotpro.models WHERE status IS DISTINCT FROM 'deleted')"
    )
    suspects, live = queries.execute(connection, statement, pull_id=pull_id, began_at=began_at).one()
    return suspects, live


def hold(connection: Connection, pull_id: int, began_at: datetime) -> None:
    """Leave all suspects of a pull to a person; those that were left alone long enough are forgotten."""
    queries.run(connection, "DELETE FROM headshotpro.held_suspects WHERE kept_until <= now()")
    statement = (
        "INSERT INTO headshotpro.held_suspects (pull_id, model_id) "
        f"SELECT :pull_id, m.id {_SUSPECT} ON CONFLICT DO NOTHING"
    )
    queries.run(connection, statement, pull_id=pull_id, began_at=began_at)


def unhold_shown(connection: Connection, began_at: datetime) -> None:
    """Take from held pulls the models that a full pull showed which began at an upstream time.

    They exist, so no person decides about them. While they were held, no pull could find that they were deleted later.
    """
    statement = (
        "DELETE FROM headshotpro.held_suspects AS h USING headshotpro.model_clocks AS c "
        "WHERE c.model_id = h.model_id AND c.profile_at >= :began_at AND h.kept_until IS NULL"
    )
    queries.run(connection, statement, began_at=began_at)


def held(connection: Connection, pull_id: int, above: str, limit: int) -> list[str]:
    """The suspects of a held pull that are still alive in the mirror; in id order, above an id."""
    statement = """
        SELECT h.model_id FROM headshotpro.held_suspects AS h JOIN headshotpro.models AS m ON m.id = h.model_id
        WHERE h.pull_id = :pull_id AND h.model_id > :above AND m.status IS DISTINCT FROM 'deleted'
        ORDER BY h.model_id LIMIT :limit
    """
    return queries.column(connection, statement, pull_id=pull_id, above=above, limit=limit)


def count_held(connection: Connection, pull_id: int) -> int:
    """How many suspects of a held pull are still alive in the mirror."""
    statement = (
        "SELECT count(*) FROM headshotpro.held_suspects AS h JOIN headshotpro.models AS m ON m.id = h.model_id "
        "WHERE h.pull_id = :pull_id AND m.status IS DISTINCT FROM 'deleted'"
    )
    return int(queries.value(connection, statement, pull_id=pull_id))


def count_kept(connection: Connection) -> int:
    """How many live models of rejected pulls are left alone, and were shown by no API response since."""
    statement = """
        SELECT count(DISTINCT h.model_id) FROM headshotpro.held_suspects AS h
        JOIN headshotpro.pulls AS p ON p.id = h.pull_id JOIN headshotpro.models AS m ON m.id = h.model_id
        JOIN headshotpro.model_clocks AS c ON c.model_id = h.model_id
        WHERE h.kept_until > now() AND m.status IS DISTINCT FROM 'deleted'
            AND (c.profile_at IS NULL OR c.profile_at < p.upstream_started_at)
    """
    return int(queries.value(connection, statement))


def release(connection: Connection, pull_id: int) -> None:
    """Nobody has to decide about the suspects of a pull any more."""
    queries.run(connection, "DELETE FROM headshotpro.held_suspects WHERE pull_id = :id", id=pull_id)


def exempt_for(connection: Connection, pull_id: int, seconds: float) -> None:
    """No pull decides the suspects of this one for some time."""
    statement = (
        "UPDATE headshotpro.held_suspects SET kept_until = now() + make_interval(secs => :seconds) WHERE pull_id = :id"
    )
    queries.run(connection, statement, id=pull_id, seconds=seconds)


def left_hot(
    connection: Connection, pull_id: int, began_at: datetime, statuses: tuple[str, ...], limit: int
) -> list[str]:
    """Models that were in a hot status, and that a hot pull which began at an upstream time did not show."""
    statement = (
        f"SELECT m.id {_NOT_SHOWN} AND m.status = ANY(CAST(:statuses AS text[])) "
        "AND c.core_at < :began_at ORDER BY m.id LIMIT :limit"
    )
    values = {"pull_id": pull_id, "began_at": began_at, "statuses": list(statuses), "limit": limit}
    return queries.column(connection, statement, **values)


def newest_shown_at(connection: Connection) -> datetime | None:
    """The newest upstream time as of which an API response showed any model; read before the next request is sent."""
    found: datetime | None = queries.value(connection, "SELECT max(profile_at) FROM headshotpro.model_clocks")
    return found


def shown_since(connection: Connection, pull_id: int, began_at: datetime) -> int:
    """How many models an API response showed since an upstream time, with those of a pull whose row was refused."""
    statement = f"""
        SELECT (SELECT count(*) FROM headshotpro.model_clocks WHERE profile_at >= :began_at) + (
            SELECT count(DISTINCT s.model_id) {_REFUSED} AND NOT EXISTS (
                SELECT FROM headshotpro.model_clocks AS c WHERE c.model_id = s.model_id AND c.profile_at >= :began_at
            )
        )
    """  # noqa: S608 - constant
    return int(queries.value(connection, statement, pull_id=pull_id, began_at=began_at))


def refused(connection: Connection, pull_id: int) -> int:
    """How many models a pull showed whose row Postgres refused."""
    statement = f"SELECT count(DISTINCT s.model_id) {_REFUSED}"
    return int(queries.value(connection, statement, pull_id=pull_id))

"""Events as people search them: for the console's pages, for commands, and to replay what was found."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

# Reasons are counted over this many of the newest dead events, names of events are found in this many of the newest.
MAX_DEAD = 10_000
MAX_NAMED = 2_000


class EventSearch(NamedTuple):
    """Which events a list shows; what is None does not narrow it.

    Attributes:
        error: why they are dead.
        words: a text in the body, in any case.
    """

    event: str | None = None
    status: str | None = None
    model_id: str | None = None
    error: str | None = None
    words: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def received_so_far(self) -> EventSearch:
        """The same without events that come from now on: they are applied by themselves, and need no replay."""
        now = datetime.now(UTC)
        return self._replace(until=min(self.until or now, now))

    @property
    def document(self) -> dict[str, str]:
        """What narrows it, as JSON or a URL holds it."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        return {name: value if isinstance(value, str) else value.isoformat() for name, value in given.items()}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> EventSearch:
        """The search of a `document`; a time is in UTC where it names no zone.

        Raises:
            ValueError: a time in it is none.
            TypeError: it holds something that no search has.
        """
        times = {name: datetime.fromisoformat(document[name]) for name in ("since", "until") if name in document}
        zoned = {name: at if at.tzinfo else at.replace(tzinfo=UTC) for name, at in times.items()}
        return cls(**{**document, **zoned})

    @property
    def replay_query(self) -> str | None:
        """The target of the act that replays all that it finds; None where no act can.

        A text that is looked for in bodies may be a person's name, which belongs into no audit log.
        """
        document = self.document
        return urlencode(document) if document and "words" not in document else None


class EventPlace(NamedTuple):
    """A place in the list: the event at which a page ends."""

    received_at: datetime
    id: str


_CONDITIONS = {
    "event": "event = :event",
    "status": "status = :status",
    "model_id": "model_id = :model_id",
    "error": "error = :error",
    "words": "position(lower(:words) IN lower(CAST(payload AS text))) > 0",
    "since": "received_at >= :since",
    "until": "received_at < :until",
}


def page(connection: Connection, search: EventSearch, before: EventPlace | None, limit: int) -> list[dict[str, Any]]:
    """The wanted events without their bodies, the newest first.

    Words are looked for in every body of the time: the transaction has a time limit.
    """
    conditions, values = queries.where(_CONDITIONS, search._asdict())
    if before is not None:
        conditions += " AND (received_at, id) < (:before_at, :before_id)"
        values |= {"before_at": before.received_at, "before_id": before.id}
    statement = (
        "SELECT id, event, model_id, status, error, created_at, received_at, processed_at, deliveries "  # noqa: S608
        f"FROM headshotpro.webhook_events WHERE {conditions} "
        "ORDER BY received_at DESC, id DESC LIMIT :limit"
    )
    return queries.rows(connection, statement, **values, limit=limit)


def count(connection: Connection, search: EventSearch, most: int) -> int:
    """How many events are wanted, counted to `most` + 1."""
    conditions, values = queries.where(_CONDITIONS, search._asdict())
    statement = (
        f"SELECT count(*) FROM (SELECT FROM headshotpro.webhook_events WHERE {conditions} LIMIT :limit) AS found"  # noqa: S608
    )
    return int(queries.value(connection, statement, **values, limit=most + 1))


def next_batch(
    connection: Connection,
    search: EventSearch,
    after: EventPlace | None,
    limit: int,
    size: int,
    *,
    ids: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """The next of the wanted events with their bodies, the oldest first.

    At most `limit`, and `size` bytes of bodies; the first one comes whatever its size. With `ids`, of those alone.
    """
    conditions, values = queries.where(_CONDITIONS, search._asdict())
    if ids is not None:
        conditions += " AND id = ANY(CAST(:ids AS text[]))"
        values["ids"] = list(ids)
    if after is not None:
        conditions += " AND (received_at, id) > (:after_at, :after_id)"
        values |= {"after_at": after.received_at, "after_id": after.id}
    statement = f"""
        WITH found AS MATERIALIZED (
            SELECT * FROM headshotpro.webhook_events WHERE {conditions} ORDER BY received_at, id LIMIT :limit
        ), summed AS (
            SELECT id AS summed_id,
                sum(coalesce(octet_length(CAST(payload AS text)), 0)) OVER (ORDER BY received_at, id) AS so_far,
                row_number() OVER (ORDER BY received_at, id) AS place
            FROM found
        )
        SELECT found.* FROM found JOIN summed ON summed_id = id
        WHERE so_far <= :size OR place = 1 ORDER BY received_at, id
    """  # noqa: S608 - our own words
    return queries.rows(connection, statement, **values, limit=limit, size=size)


def dead_by_reason(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Why the newest dead events are dead: `error`, `number`, `newest_at` and `newest_id`; the most frequent first."""
    statement = """
        WITH dead AS MATERIALIZED (
            SELECT id, error, received_at FROM headshotpro.webhook_events WHERE status = 'dead'
            ORDER BY received_at DESC LIMIT :dead
        )
        SELECT error, count(*) AS number, max(received_at) AS newest_at,
            (array_agg(id ORDER BY received_at DESC, id DESC))[1] AS newest_id
        FROM dead GROUP BY error ORDER BY count(*) DESC, max(received_at) DESC LIMIT :limit
    """
    return queries.rows(connection, statement, limit=limit, dead=MAX_DEAD)


def names(connection: Connection) -> list[str]:
    """The names that the newest events have."""
    statement = """
        SELECT DISTINCT event FROM (
            SELECT event FROM headshotpro.webhook_events ORDER BY received_at DESC LIMIT :named
        ) AS newest ORDER BY event LIMIT 50
    """
    return queries.column(connection, statement, named=MAX_NAMED)

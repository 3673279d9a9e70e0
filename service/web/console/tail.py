"""The tail of changes and events: what became visible since the last reading, whatever the order of commits.

Why: `docs/decisions/0043-streams-by-polling.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from service.storage import api_queries, console_tail
from service.storage.console_tail import EVENT_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

CHANGES, EVENTS = "changes", "events"
# Beyond this many, a reading says only that there are more.
MAX_NEWS = 500


class Item(NamedTuple):
    """One row that is new.

    Attributes:
        topic: `changes` or `events`.
        key: as `data-key` of its row on a page has it. A change that an event caused has the event's, so that a
            timeline of both counts it once.
        facts: the values that pages filter by; none of an event where they were not asked for.
    """

    topic: str
    key: str
    facts: Mapping[str, str | None]


class News(NamedTuple):
    """What is new.

    Attributes:
        items: the changes, then the events, the oldest first.
        more: there are more than these.
    """

    items: Sequence[Item]
    more: bool


def change_key(change_id: int, event_id: str | None) -> str:
    """The key of a change's row."""
    return event_id or f"c{change_id}"


class Tail:
    """Reads what is new, again and again; the first reading begins at the end and finds nothing.

    Args:
        reading: begins a transaction.
    """

    def __init__(self, reading: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._reading = reading
        self._newest_change: int | None = None
        self._seen: Mapping[str, int] = {}

    def read(self, *, with_facts: bool) -> tuple[str, News]:
        """Read what is new since the last reading; where it fails, the next one finds it.

        Args:
            with_facts: some page filters; without, the facts of events are not read.

        Returns:
            What was there, a text that is the same in each process, and what is new.

        Raises:
            PostgresUnavailable: Postgres cannot be reached.
            StatementTimeout: a statement took too long.
        """
        with self._reading() as connection:
            is_first = self._newest_change is None
            after = api_queries.newest_change(connection) or 0 if self._newest_change is None else self._newest_change
            changes = console_tail.changes_after(connection, after, MAX_NEWS)
            seen = console_tail.newest_events(connection)
            # An older event comes back into a full window where newer ones were deleted.
            oldest = min(self._seen.values()) if len(self._seen) == EVENT_WINDOW else 0
            fresh = [event_id for event_id, at in seen.items() if event_id not in self._seen and at >= oldest]
            news = News((), more=False) if is_first else _news(connection, changes, fresh, with_facts=with_facts)
        self._newest_change, self._seen = changes.newest, seen
        # An event that is committed after newer ones changes the text, too.
        return f"{changes.newest}.{crc32(' '.join(sorted(seen)).encode())}", news


def _news(
    connection: Connection, changes: console_tail.ChangeNews, event_ids: Sequence[str], *, with_facts: bool
) -> News:
    items = [
        Item(
            CHANGES,
            change_key(row["id"], row["event_id"]),
            {"model": row["model_id"], "source": row["source"], "status": row["to_status"]},
        )
        for row in changes.rows
    ]
    newest = event_ids[:MAX_NEWS]
    if newest and with_facts:
        items += [
            Item(EVENTS, row["id"], {"model": row["model_id"], **{name: row[name] for name in _EVENT_FACTS}})
            for row in console_tail.events(connection, newest)
        ]
    else:
        items += [Item(EVENTS, event_id, {}) for event_id in reversed(newest)]
    return News(items, changes.more or len(event_ids) > MAX_NEWS)


_EVENT_FACTS = ("event", "status", "error")

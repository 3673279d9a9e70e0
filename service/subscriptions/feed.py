"""The change feed as the sender of one process reads it, for all of its subscriptions together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.storage import api_queries, subscription_feed
from service.storage.database import transaction
from service.subscriptions import message
from service.subscriptions.deliveries import QueuedChange

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from service.subscriptions.state import SubscriptionState

READ_LIMIT = 200


@dataclass(slots=True)
class FeedReader:
    """Reads changes with their rows, and keeps them for a moment: most are sent, and to several, right after.

    Each method raises `PostgresUnavailable` where it is.

    Attributes:
        fresh: for how long a change that was read is sent without reading it again, in seconds.
        newest: the newest id of the feed when it was last polled.
        kept: changes that were read a moment ago, by their ids.
    """

    engine: Engine
    fresh: float
    newest: int = 0
    kept: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _kept_since: float = 0.0

    def poll(self, states: Collection[SubscriptionState]) -> bool:
        """Find out whether the feed is farther than before, and if so read what is new, in the same transaction."""
        before = self.newest
        with transaction(self.engine) as connection:
            self.newest = api_queries.newest_change(connection) or 0
            for place, readers in self._hungry(states).items():
                self._read_page(connection, place, readers)
        return self.newest > before

    def read_for(self, states: Collection[SubscriptionState]) -> None:
        """Read what is left of the feed for each subscription that wants more."""
        for place, readers in self._hungry(states).items():
            with transaction(self.engine) as connection:
                self._read_page(connection, place, readers)

    def _hungry(self, states: Collection[SubscriptionState]) -> dict[int, list[SubscriptionState]]:
        """The subscriptions that want more, by their places in the feed: those at one place share a reading."""
        places: dict[int, list[SubscriptionState]] = {}
        for state in states:
            if not state.closing and state.window.read_to < self.newest and state.window.hungry(READ_LIMIT):
                places.setdefault(state.window.read_to, []).append(state)
        return places

    def _read_page(self, connection: Connection, place: int, readers: Sequence[SubscriptionState]) -> None:
        room = max(state.window.room for state in readers)
        # Here too: where the filters admit nothing for a long time, nothing is sent, and all would stay.
        self._forget()
        page = subscription_feed.read_after(connection, place, min(READ_LIMIT, room))
        wanted: dict[int, Mapping[str, Any]] = {}
        for state in readers:
            fits = page[: state.window.room]
            admitted = [change for change in fits if message.admits(state.row, change)]
            wanted.update((change["id"], change) for change in admitted)
            changes = [QueuedChange(change["id"], change["model_id"]) for change in admitted]
            state.window.add(changes, fits[-1]["id"] if fits else self.newest)
        self.kept.update(wanted)

    def changes(self, wanted: Iterable[int], upcoming: Iterable[int]) -> Mapping[int, Mapping[str, Any]]:
        """Changes with their rows: those read just now, and all others as they are now.

        Args:
            wanted: the changes. One that is not kept any more is left out.
            upcoming: those that will be wanted next: where one of `wanted` has to be read, these are read with it.
        """
        self._forget()
        missing = {number for number in wanted if number not in self.kept}
        if missing:
            missing.update(number for number in upcoming if number not in self.kept)
            with transaction(self.engine) as connection:
                self.kept.update(
                    (change["id"], change) for change in subscription_feed.read(connection, sorted(missing))
                )
        return self.kept

    def _forget(self) -> None:
        """A change may have been erased since it was read: after a moment it is read again."""
        now = time.monotonic()
        if now - self._kept_since > self.fresh:
            self.kept.clear()
            self._kept_since = now

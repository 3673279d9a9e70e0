"""Pages read ahead: a thread walks over the list while the pages before are merged.

The thread waits for the vendor, the merge for Postgres: the slower of the two sets the pace, not their sum. The next
page follows from the pages alone, not from their merge.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from service.broker.inbox import MAX_READ_BYTES
from service.errors import ListUnusable
from service.mirror.codec import digests_of
from service.mirror.walk import PAGE_SIZE, Walk, WalkPage, follow
from service.upstream.payloads import created_at_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from service.upstream.payloads import ListedModel, ModelPage
    from service.upstream.records import UnusableRecord
    from service.upstream.responses import UpstreamResponse

    FetchPage: TypeAlias = Callable[[int], UpstreamResponse[ModelPage]]

# Another page that comes within this is merged with the one before: a transaction costs as much as a page.
LINGER_SECONDS = 0.1

# A checkpoint is JSON: larger numbers do not come back out of it.
_LARGEST_COUNT = 10**15

# Models of another status that a page of one status may show.
MAX_STRAYS = 10


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A page that was read.

    Attributes:
        digests: of each record; None where it is for the merge alone.
        received_at: upstream time of its response.
        joined: it joined the page before.
        walk: the walk after it, except how many of its models are new: only the merge finds that.
        size: bytes of the response.
    """

    page: WalkPage
    models: Sequence[ListedModel]
    digests: Sequence[int | None]
    received_at: datetime
    joined: bool
    walk: Walk
    size: int = 0
    set_aside: Sequence[UnusableRecord] = ()


class PagePrefetcher:
    """Walks on from a checkpoint, never more than a few pages ahead of the merge."""

    def __init__(self, walk: Walk, fetch_page: FetchPage, left: Callable[[], float], most: int) -> None:
        """Begin to read.

        `left` says for how many seconds another request may be begun; `most` pages may be read and not merged:
        with 1, the next is read when the one before is merged.
        """
        self._walk = walk
        # Of this walk, as far as this reader has read it.
        self._seen_ids: set[str] = set()
        self._fetch_page = fetch_page
        self._left = left
        # The other half is read while these are merged.
        self._most_taken = max(1, most // 2)
        self._room = threading.Semaphore(most)
        self._closed = False
        self._found: queue.SimpleQueue[FetchedPage | BaseException | None] = queue.SimpleQueue()
        self._over: list[BaseException | None] = []
        threading.Thread(target=self._read_on, name="pages", daemon=True).start()

    def take(self) -> list[FetchedPage]:
        """Pages that wait to be merged, at least one; none when the time is up or the walk has ended.

        No more than half of those that may be read ahead, and none once they have `MAX_READ_BYTES`; pages that follow
        each other quickly are taken together.

        Raises:
            Exception: whatever ended the reading, once the pages before it were taken.
        """
        taken: list[FetchedPage] = []
        with suppress(queue.Empty):
            while (
                not self._over and len(taken) < self._most_taken and sum(read.size for read in taken) < MAX_READ_BYTES
            ):
                found = self._found.get(timeout=LINGER_SECONDS if taken else None)
                if isinstance(found, FetchedPage):
                    taken.append(found)
                else:
                    self._over.append(found)
        if not taken and self._over[0]:
            raise self._over[0]
        return taken

    def merged(self, pages: int) -> None:
        """Let the thread read this number of further pages, because as many were merged."""
        self._room.release(pages)

    def close(self) -> None:
        """Begin no other request. The one under way is not waited for."""
        self._closed = True
        self._room.release()

    def _read_on(self) -> None:
        try:
            while not self._walk.ended and self._may_go_on():
                self._found.put(self._read())
            self._found.put(None)
        except BaseException as error:  # noqa: BLE001 - raised by `take`, where it is waited for
            self._found.put(error)

    def _may_go_on(self) -> bool:
        self._room.acquire()
        return not self._closed and self._left() > 0

    def _read(self) -> FetchedPage:
        walk = self._walk
        response = self._fetch_page(walk.offset)
        # It was sent after all that the walk has seen, so it is no older, whatever the whole seconds of `Date` say.
        page = walk_page_of(response, min(max(response.sent_at, walk.began_at), response.received_at))
        self._walk = follow(walk, page, self._seen_ids)
        models = response.body.models
        return FetchedPage(
            page,
            models,
            digests_of(models),
            response.received_at,
            not self._walk.back,
            self._walk,
            len(response.raw),
            response.set_aside,
        )


def require_status_filter(models: Sequence[ListedModel], status: str) -> None:
    """Refuse a page of one status that shows others: each walk would read the whole list.

    A few others are a status that changed a moment ago.

    Raises:
        ListUnusable: it shows more than a few.
    """
    strays = sum(1 for model in models if isinstance(model.status, str) and model.status != status)
    if strays > max(MAX_STRAYS, len(models) // 10):
        raise ListUnusable(
            f"the upstream ignores the status filter: a page of {status} models shows {strays} of another status"
        )


def walk_page_of(response: UpstreamResponse[ModelPage], sent_at: datetime) -> WalkPage:
    """A page as a walk reads it; creation times come from the ids where the page contains none."""
    listed, pagination = response.body.models, response.body.pagination
    unread = tuple(one.place for one in response.set_aside if one.model_id is None)
    created: list[Any] = [model.created_at or created_at_of(model.id) for model in listed]
    return WalkPage(
        ids=[model.id for model in listed],
        created=[time for time in created if time],
        total=max(0, min(pagination.total, _LARGEST_COUNT)),
        full=len(listed) + len(unread) >= min(pagination.limit, PAGE_SIZE),
        has_more=pagination.has_more,
        sent_at=sent_at,
        unread=unread,
    )

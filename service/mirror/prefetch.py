"""Pages read ahead: a thread walks over the list while the pages before are merged.

It waits for the vendor, the merge for Postgres: the slower of the two sets the pace, not their sum. Which page is next
follows from the pages alone, not from what merging them found.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from service.broker.inbox import MOST_BYTES
from service.errors import ListUnusable
from service.mirror.walk import PAGE, Page, Walk, accepts, step_back, step_on
from service.upstream.payloads import created_at_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from service.upstream.payloads import ListedModel, ModelPage
    from service.upstream.records import Unusable
    from service.upstream.responses import Answer

    Ask: TypeAlias = Callable[[int], Answer[ModelPage]]

# Another page that comes within this is merged with the one before: a transaction costs as much as a page.
GATHERING_SECONDS = 0.02

# A checkpoint is JSON: larger numbers do not come back out of it.
_LARGEST_COUNT = 10**15

# Models of another status that a page of one status may show.
MOST_STRAYS = 10

_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Read:
    """A page that was read.

    Attributes:
        page: what the walk looked at.
        models: what it shows.
        marks: of each model, a digest of all that the page tells of it, to be held against others of the same model.
        answered_at: upstream time of its answer.
        joined: it joined the page before.
        walk: where the walk stands after it, but for how many of its models are new: the merge has yet to tell.
        size: bytes of the response.
        set_aside: what of the page could not be used.
    """

    page: Page
    models: Sequence[ListedModel]
    marks: Sequence[int]
    answered_at: datetime
    joined: bool
    walk: Walk
    size: int = 0
    set_aside: Sequence[Unusable] = ()


class Reader:
    """Walks on from a checkpoint, never more than a few pages ahead of who takes them."""

    def __init__(self, walk: Walk, ask: Ask, left: Callable[[], float], most: int) -> None:
        """Begin to read.

        Args:
            walk: where it stands; it has not ended.
            ask: sends the request for a page at an offset.
            left: seconds in which another request may be begun.
            most: pages that may be read and not merged; 1: the next is asked for when the one before is merged.
        """
        self._walk = walk
        # Of this walk, as far as this reader has read it.
        self._met = set(walk.tail)
        self._ask = ask
        self._left = left
        # The other half is read while these are merged.
        self._most_taken = max(1, most // 2)
        self._room = threading.Semaphore(most)
        self._closed = False
        self._found: queue.SimpleQueue[Read | BaseException | None] = queue.SimpleQueue()
        self._over: list[BaseException | None] = []
        threading.Thread(target=self._read_on, name="pages", daemon=True).start()

    def take(self) -> list[Read]:
        """Pages that wait to be merged, at least one; none when the time is up or the walk has ended.

        No more than half of those that may be read ahead, and no other once they have `MOST_BYTES`; pages that follow
        each other quickly are taken together.

        Raises:
            Exception: whatever ended the reading, once the pages before it were taken.
        """
        taken: list[Read] = []
        with suppress(queue.Empty):
            while not self._over and len(taken) < self._most_taken and sum(read.size for read in taken) < MOST_BYTES:
                found = self._found.get(timeout=GATHERING_SECONDS if taken else None)
                if isinstance(found, Read):
                    taken.append(found)
                else:
                    self._over.append(found)
        if not taken and self._over[0]:
            raise self._over[0]
        return taken

    def merged(self, pages: int) -> None:
        """So many pages were merged: as many more may be read."""
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

    def _read(self) -> Read:
        walk = self._walk
        answer = self._ask(walk.offset)
        # It was sent after all that the walk has seen, so it is no older, whatever the whole seconds of `Date` say.
        page = page_of(answer, min(max(answer.sent_at, walk.began_at), answer.answered_at))
        joined = accepts(walk, page)
        fresh = bool(page.unread) or not self._met.issuperset(page.ids)
        self._met.update(page.ids)
        self._walk = step_on(walk, page, 0, fresh=fresh) if joined else step_back(walk)
        models = answer.body.models
        return Read(
            page, models, marks_of(models), answer.answered_at, joined, self._walk, len(answer.raw), answer.set_aside
        )


def require_filter(models: Sequence[ListedModel], status: str) -> None:
    """Refuse a page of one status that shows others: each walk would read the whole list.

    A few others are a status that changed a moment ago.

    Raises:
        ListUnusable: it shows more than a few.
    """
    strays = sum(1 for model in models if isinstance(model.status, str) and model.status != status)
    if strays > max(MOST_STRAYS, len(models) // 10):
        raise ListUnusable(
            f"the upstream ignores the status filter: a page of {status} models shows {strays} of another status"
        )


def marks_of(models: Sequence[ListedModel]) -> list[int]:
    """The marks of a page's models."""
    lines = _ENCODER.encode_lines(models).split(b"\n")
    return [int.from_bytes(blake2b(line, digest_size=8).digest(), signed=True) for line in lines[: len(models)]]


def page_of(answer: Answer[ModelPage], sent_at: datetime) -> Page:
    """What a walk looks at in a page; creation times come from the ids where the page tells none."""
    listed, pagination = answer.body.models, answer.body.pagination
    unread = tuple(one.place for one in answer.set_aside if one.model_id is None)
    created: list[Any] = [model.created_at or created_at_of(model.id) for model in listed]
    return Page(
        ids=[model.id for model in listed],
        created=[time for time in created if time],
        total=max(0, min(pagination.total, _LARGEST_COUNT)),
        full=len(listed) + len(unread) >= min(pagination.limit, PAGE),
        has_more=pagination.has_more,
        sent_at=sent_at,
        unread=unread,
    )

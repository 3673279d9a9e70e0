"""The walk over an offset-paginated list that changes while it is read. Pure: which page next, and what it proves.

Pages overlap: some id of one page has to appear again in the next, else models have vanished in front of it and a gap
is possible, and the walk steps back. A walk is unbroken from offset 0 to the end by construction. It cannot prove by
itself that the order of the list did not change: where it was not monotone in creation time, only another walk without
a new model proves that nothing was missed. One that saw fewer models than a total that never moved proves nothing.

Every walk ends. The list's total bounds its offset, and an upstream that ignores `offset` is found out by pages that
show no new model. `failure_reason` has the reason.

Why: `docs/decisions/0006-a-walk-that-proves-itself.md`.
"""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import msgspec

PAGE_SIZE = 200
OVERLAP = 10
# After a mismatch the walk is careful to its end: more models may vanish between any two requests.
CAREFUL_OVERLAP = 100
TAIL = 50
# A list whose pages join no better than this moves faster than it can be read, or its pages make no sense.
MAX_STEPS_BACK = 20
MAX_WALKS = 6
# Pages in a row, each further on in the list, that show no model which is new to the walk.
MAX_STALLED_PAGES = 2
# A walk goes no further than twice the total and this: room for models that are created while it reads a small list.
OFFSET_SLACK = 20 * PAGE_SIZE
# No organization has more; a total beyond it would bound nothing.
MAX_TOTAL = 10_000_000


class WalkPage(NamedTuple):
    """A page as a walk reads it.

    Attributes:
        created: creation times where they are known, in the list's order.
        total: the vendor's count of the whole list.
        full: it is as long as the request's limit.
        has_more: the vendor's own flag that more follow.
        sent_at: upstream time of its request.
        unread: places in the page of records that cannot be read; each is a model whose id is not known.
    """

    ids: list[str]
    created: list[datetime]
    total: int
    full: bool
    has_more: bool
    sent_at: datetime
    unread: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many places of the list it shows."""
        return len(self.ids) + len(self.unread)


class Walk(msgspec.Struct, kw_only=True, frozen=True):
    """The state of a walk; its JSON is a pull's checkpoint.

    Attributes:
        overlap: how far the next page reaches into the last one.
        tail: the last ids of the last accepted page.
        began_at: upstream time of its first request.
        total: the list's total in the first page.
        newest_total: the total in the last page that joined.
        total_moved: the total changed while it walked.
        rising: the list's order by creation; None until two different times were seen.
        head: creation time at the head of the last accepted page.
        monotone: the order has held so far.
        back: how far the last step went back; 0 where it went on.
        steps_back: how many steps went back so far.
        new: models that this pull saw first on this walk.
        reached: the place behind the page that was furthest on, of those that joined.
        size: how many places the last accepted page showed.
        stalled: pages in a row that showed no new model although each was further on than the one before.
        unread: records that cannot be read; they count towards the total.
        ended: it has reached the end, or given up.
        broken: it has given up.
    """

    number: int = 1
    offset: int = 0
    overlap: int = OVERLAP
    tail: tuple[str, ...] = ()
    began_at: datetime = datetime.min.replace(tzinfo=UTC)
    total: int | None = None
    newest_total: int = 0
    total_moved: bool = False
    rising: bool | None = None
    head: datetime | None = None
    monotone: bool = True
    back: int = 0
    steps_back: int = 0
    new: int = 0
    reached: int = 0
    size: int = 0
    stalled: int = 0
    unread: int = 0
    ended: bool = False
    broken: bool = False


def accepts(walk: Walk, page: WalkPage) -> bool:
    """Whether a page joins what was read before it; the first page of the list always does.

    An empty page is the end, unless the list has become shorter since: then what is left may have moved ahead.
    """
    if _is_beyond(walk, page) or (not page.size and page.total >= walk.newest_total):
        return True
    return walk.offset == 0 or not walk.tail or not set(walk.tail).isdisjoint(page.ids)


def follow(walk: Walk, page: WalkPage, seen: set[str], new: int = 0) -> Walk:
    """After a page: on, or back where it did not join.

    Args:
        walk: the walk before the page.
        page: the page at the walk's offset.
        seen: ids that this walk was shown since its last step back, empty at its start; brought up to date here.
            After a step back models shown before are no measure: others may have been created or deleted ahead of
            them, so that pages further on show them again.
        new: how many of its models this pull had not seen before.
    """
    if not accepts(walk, page):
        seen.clear()
        return step_back(walk)
    before = len(seen)
    seen.update(page.ids)
    return step_on(walk, page, new, fresh=bool(page.unread) or len(seen) > before)


def step_back(walk: Walk) -> Walk:
    """After a page that did not join: read again, further ahead in the list, at the latest from its start."""
    back = max(CAREFUL_OVERLAP, walk.back * 2)
    broken = walk.steps_back == MAX_STEPS_BACK
    return msgspec.structs.replace(
        walk,
        offset=max(0, walk.offset - back),
        back=back,
        steps_back=walk.steps_back + 1,
        overlap=CAREFUL_OVERLAP,
        ended=broken,
        broken=broken,
    )


def step_on(walk: Walk, page: WalkPage, new: int, *, fresh: bool = True) -> Walk:
    """After a page that joined.

    Of its models, `new` are new to the pull; `fresh`: some are new to this walk since its last step back.
    """
    first = walk.total is None
    total = page.total if walk.total is None else walk.total
    rising, monotone = _order(walk, page)
    stalled = 0 if fresh else walk.stalled + _stalls(walk, page)
    offset = walk.offset + _stride(page.size, walk.overlap)
    last = _is_last(walk, page, fresh=fresh)
    broken = not last and offset > 2 * min(total, MAX_TOTAL) + OFFSET_SLACK
    return msgspec.structs.replace(
        walk,
        offset=offset,
        tail=tuple(page.ids[-TAIL:]) or walk.tail,
        began_at=page.sent_at if first else walk.began_at,
        total=total,
        newest_total=page.total,
        total_moved=walk.total_moved or page.total != total,
        rising=rising,
        head=page.created[0] if page.created else walk.head,
        monotone=monotone,
        back=0,
        new=walk.new + new,
        reached=max(walk.reached, walk.offset + page.size),
        size=page.size,
        stalled=stalled,
        # Pages overlap: an unreadable record has no id by which it is known again, so its place has to do.
        unread=walk.unread + sum(1 for place in page.unread if walk.offset + place >= walk.reached),
        ended=last or broken or stalled >= MAX_STALLED_PAGES,
        broken=broken,
    )


def pages_of(total: int | None) -> int:
    """How many pages a walk over a list of this length reads; 1 while the length is unknown."""
    return max(1, -(-(total or 0) // (PAGE_SIZE - OVERLAP)))


def _stride(size: int, overlap: int) -> int:
    """How far a walk goes on after a page. However short the upstream makes its pages, half of each is new."""
    return max(1, size - min(overlap, size // 2))


def _stalls(walk: Walk, page: WalkPage) -> bool:
    """Whether a page without a new model means that the upstream ignores the offset.

    It does not where the page is shorter than the last one (the offset counts, and this is the list's end), or where
    as many models were created meanwhile as would shift the list so far.
    """
    return page.size >= walk.size and page.total - walk.newest_total < _stride(walk.size, walk.overlap)


def _is_beyond(walk: Walk, page: WalkPage) -> bool:
    """Whether a page was requested behind the list's end: whatever it shows, the walk has read as much as there is."""
    return 0 < walk.reached <= page.total <= walk.offset


def _is_last(walk: Walk, page: WalkPage, *, fresh: bool) -> bool:
    """Whether the list ends with a page. `hasMore` alone is not believed while the total says that more follow."""
    if not page.size or _is_beyond(walk, page):
        return True
    more_by_total = walk.offset + page.size < page.total
    return not page.has_more and not page.full and not (more_by_total and fresh)


def failure_reason(walk: Walk, seen_count: int) -> str | None:
    """Why an ended walk fails its pull, in a sentence; None where it does not. It saw `seen_count` different models."""
    # A total that is less than one page shows is no measure.
    if walk.stalled >= MAX_STALLED_PAGES and not walk.size <= walk.newest_total <= seen_count + walk.unread:
        return (
            f"the upstream ignores offset: {MAX_STALLED_PAGES} pages in a row showed no new model, "
            f"and the walk saw {seen_count + walk.unread} of {walk.newest_total} models"
        )
    if walk.broken and walk.steps_back <= MAX_STEPS_BACK:
        return f"the list does not end: the walk is at offset {walk.offset}, and the upstream's total is {walk.total}"
    return None


def proves_complete(walk: Walk, seen_count: int) -> bool:
    """Whether an ended walk leaves no doubt that the whole list was seen. It saw `seen_count` different models."""
    total = walk.total or 0
    counted = walk.total_moved or seen_count + walk.unread >= total
    if walk.stalled >= MAX_STALLED_PAGES:
        # It did not come to an end that the upstream showed: only a count that held still, and is passed, can be one.
        counted = counted and not walk.total_moved and walk.offset >= total
    none_new = walk.number > 1 and walk.new == 0
    return not walk.broken and counted and (walk.monotone or none_new)


def incomplete_reason(walk: Walk, seen_count: int) -> str:
    """One sentence that says why the pull fails: its last walk does not prove that it saw the whole list."""
    return (
        f"the list did not hold still: {MAX_WALKS} walks could not prove that nothing was missed; "
        f"the last one saw {seen_count + walk.unread} models, and the upstream's total is {walk.newest_total}"
    )


def next_walk(walk: Walk) -> Walk:
    """The next walk of the same pull."""
    return Walk(number=walk.number + 1)


def _order(walk: Walk, page: WalkPage) -> tuple[bool | None, bool]:
    """The list's direction, and whether this page and its place after the last one keep to it."""
    # Without every model's time the order is not known.
    rising, monotone = walk.rising, walk.monotone and len(page.created) == len(page.ids)
    times = page.created if walk.head is None or walk.back else [walk.head, *page.created]
    if rising is None:
        # Models created in the same moment say nothing about the order.
        rising = next((other > one for one, other in pairwise(times) if one != other), None)
    keeps_order = operator.le if rising else operator.ge
    return rising, monotone and all(map(keeps_order, times, times[1:]))

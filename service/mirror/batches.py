"""How many deliveries are read at once, and how they are shared out among threads and transactions. Pure.

The events of one model stay in one lane, in their order, so that its history contains each step.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zlib import crc32

from service.broker.inbox import MAX_READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.broker.inbox import InboxEntry

LANES = 2
# Deliveries of one transaction, and of all lanes of an inbox that stays full.
BATCH_SIZE = 500
MAX_READ_SIZE = 2000
# A batch that Postgres broke off is halved, down to this: a slow server or machine may be why.
MIN_BATCH_SIZE = 50

# A guess is enough: whatever the lane of an event, it is merged alike.
_MODEL_ID = re.compile(rb'"_id"\s*:\s*"([^"]+)"')


def next_size(entries: Sequence[InboxEntry], size: int) -> int:
    """How many entries to read next.

    Args:
        entries: what was read last.
        size: how many were asked for.
    """
    return min(2 * size, MAX_READ_SIZE) if len(entries) == size else BATCH_SIZE


def assign_lanes(entries: Sequence[InboxEntry]) -> list[list[InboxEntry]]:
    """The entries of each lane, in deep inboxes maybe none of one; one lane where there are few."""
    if len(entries) <= BATCH_SIZE:
        return [list(entries)] if entries else []
    lanes: list[list[InboxEntry]] = [[] for _ in range(LANES)]
    for entry in entries:
        named = _MODEL_ID.search(entry.body)
        lanes[crc32(named[1] if named else b"") % LANES].append(entry)
    return lanes


def split(entries: Sequence[InboxEntry]) -> Iterator[list[InboxEntry]]:
    """The entries of each transaction, in their order: at least one, and bodies of `MAX_READ_BYTES` at most."""
    part: list[InboxEntry] = []
    size = 0
    for entry in entries:
        size += len(entry.body)
        if part and size > MAX_READ_BYTES:
            yield part
            part, size = [], len(entry.body)
        part.append(entry)
    if part:
        yield part


def halves(entries: list[InboxEntry]) -> list[list[InboxEntry]]:
    """The two halves of a batch that was broken off, in their order; a small one stays whole."""
    middle = len(entries) // 2
    return [entries[:middle], entries[middle:]] if len(entries) > MIN_BATCH_SIZE else [entries]

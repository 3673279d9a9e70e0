"""How much of a deep inbox is taken at once, and how it is shared out among the drain's threads. Pure.

What is told of one model stays in one lane, in its order, so that its history tells each step, as if there were one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.inbox import Entry

LANES = 2
# A batch of an inbox that is not deep, and of each lane of one that is.
BATCH = 500
MOST = 2000
# Bodies of a batch that is followed by a larger one, in bytes: memory and the time of a transaction stay small.
LIGHT = 1024 * 1024

# A guess is enough: wherever an event goes, it is merged alike.
_MODEL_ID = re.compile(rb'"_id"\s*:\s*"([^"]+)"')


def next_size(entries: Sequence[Entry], size: int) -> int:
    """How many entries to read next.

    Args:
        entries: what was read last.
        size: how many were asked for.
    """
    if len(entries) < size or sum(len(entry.body) for entry in entries) > LIGHT:
        return BATCH
    return min(2 * size, MOST)


def share_out(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries of each lane, in deep inboxes maybe none of one; one lane where there are few."""
    if len(entries) <= BATCH:
        return [list(entries)] if entries else []
    lanes: list[list[Entry]] = [[] for _ in range(LANES)]
    for entry in entries:
        named = _MODEL_ID.search(entry.body)
        lanes[crc32(named[1] if named else b"") % LANES].append(entry)
    return lanes

"""How many deliveries are read at once, and how they are shared out among transactions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.inbox import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.inbox import Entry

# Deliveries of one transaction, and of one of an inbox that stays full. Their bodies have `MOST_BYTES` in all at most.
BATCH = 500
MOST = 1000
# A batch that Postgres broke off is halved, down to this: a slow server or machine may be why.
SMALLEST = 50


def next_size(entries: Sequence[Entry], size: int) -> int:
    """How many entries to read next.

    Args:
        entries: what was read last.
        size: how many were asked for.
    """
    return min(2 * size, MOST) if len(entries) == size else BATCH


def split(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The entries of each transaction, in their order: at least one, and bodies of `MOST_BYTES` at most."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(entry.body)
        if part and size > MOST_BYTES:
            yield part
            part, size = [], len(entry.body)
        part.append(entry)
    if part:
        yield part


def halved(entries: list[Entry]) -> list[list[Entry]]:
    """The two halves of a batch that was broken off, in their order; a small one stays whole."""
    middle = len(entries) // 2
    return [entries[:middle], entries[middle:]] if len(entries) > SMALLEST else [entries]

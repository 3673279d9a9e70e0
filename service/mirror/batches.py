"""How many deliveries are read at once, how many of them one transaction applies, and in which parts. Pure.

Why: `docs/decisions/0032-one-batch-after-the-other.md` and `docs/decisions/0046-parts-of-a-batch.md`; what each stage
costs: `docs/decisions/0045-what-bounds-a-drain.md`.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from service.broker.inbox import MAX_READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.broker.inbox import Delivery
    from service.mirror.webhooks import Event

# Deliveries of one read, and of one from an inbox that stays full: what each transaction costs, fewer of them pay.
BATCH_SIZE = 500
MAX_READ_SIZE = 2000
# A batch that Postgres broke off is halved, down to this: a slow server or machine may be why.
MIN_BATCH_SIZE = 50


# Events of one part of a transaction: Postgres writes it while the next one is merged.
PART_SIZE = 250


def next_size(size: int, *, full: bool) -> int:
    """How many entries to read next; `full`: the last read, of `size`, found as many."""
    return min(2 * size, MAX_READ_SIZE) if full else BATCH_SIZE


def split(entries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """The entries of each transaction, in their order: at least one, and bodies of `MAX_READ_BYTES` at most."""
    batch: list[Delivery] = []
    size = 0
    for entry in entries:
        size += len(entry.body)
        if batch and size > MAX_READ_BYTES:
            yield batch
            batch, size = [], len(entry.body)
        batch.append(entry)
    if batch:
        yield batch


def parts_by_model(events: Sequence[Event]) -> list[Sequence[Event]]:
    """The events in parts of `PART_SIZE` or more, in order of their models' ids, those of a model in one and in order.

    A small batch stays whole: a trip to Postgres for each part costs it more than waiting for one.
    """
    if len(events) < 2 * PART_SIZE:
        return [events]
    parts: list[list[Event]] = [[]]
    for _, about_model in groupby(sorted(events, key=_model_id), _model_id):
        if len(parts[-1]) >= PART_SIZE:
            parts.append([])
        parts[-1] += about_model
    return [*parts]


def _model_id(event: Event) -> str:
    return event.model_id or ""


def halves(entries: list[Delivery]) -> list[list[Delivery]]:
    """The two halves of a batch that was broken off, in their order; a small one stays whole."""
    middle = len(entries) // 2
    return [entries[:middle], entries[middle:]] if len(entries) > MIN_BATCH_SIZE else [entries]

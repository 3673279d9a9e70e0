"""How much of a deep inbox is read at once and applied in one transaction, and how a batch is halved."""

from __future__ import annotations

from datetime import UTC, datetime

from service.broker.inbox import MAX_READ_BYTES, Delivery
from service.mirror.batches import BATCH_SIZE, MAX_READ_SIZE, MIN_BATCH_SIZE, halves, next_size, split

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def entries(bodies: list[bytes]) -> list[Delivery]:
    return [Delivery(body, NOW, NOW, f"{number}") for number, body in enumerate(bodies)]


def test_large_bodies_are_shared_out_among_transactions() -> None:
    small, large = b"{}", b" " * (MAX_READ_BYTES // 2)
    batch = entries([small, large, large, small, b" " * (2 * MAX_READ_BYTES), small])
    parts = list(split(batch))
    assert [len(part) for part in parts] == [2, 2, 1, 1]
    assert [entry for part in parts for entry in part] == batch
    assert list(split([])) == []


def test_a_deep_inbox_is_read_in_larger_batches() -> None:
    size = BATCH_SIZE
    for expected in (2 * BATCH_SIZE, MAX_READ_SIZE, MAX_READ_SIZE):
        size = next_size(entries([b"{}"] * size), size)
        assert size == expected
    assert next_size(entries([b"{}"] * (size - 1)), size) == BATCH_SIZE


def test_a_batch_is_halved_down_to_a_small_one() -> None:
    batch = entries([b"{}"] * (MIN_BATCH_SIZE + 1))
    first, second = halves(batch)
    assert [*first, *second] == batch
    assert halves(first) == [first]

"""How much of a deep inbox is read at once and applied in one transaction, and how a batch is halved."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain, pairwise

from service.broker.inbox import MAX_READ_BYTES, Delivery
from service.mirror.batches import (
    BATCH_SIZE,
    MAX_READ_SIZE,
    MIN_BATCH_SIZE,
    PART_SIZE,
    halves,
    next_size,
    parts_by_model,
    split,
)
from service.mirror.webhooks import Event

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
        size = next_size(size, full=True)
        assert size == expected
    assert next_size(size, full=False) == BATCH_SIZE


def test_a_batch_is_halved_down_to_a_small_one() -> None:
    batch = entries([b"{}"] * (MIN_BATCH_SIZE + 1))
    first, second = halves(batch)
    assert [*first, *second] == batch
    assert halves(first) == [first]


def event(model_id: str | None, number: int) -> Event:
    return Event([], f"evt_{number}", model_id=model_id)


def test_a_small_batch_is_one_part() -> None:
    events = [event(f"m{number}", number) for number in range(2 * PART_SIZE - 1)]
    assert parts_by_model(events) == [events]


def test_each_model_is_in_one_part_and_parts_are_in_order_of_ids() -> None:
    ids = [None if number % 11 == 0 else f"m{number * 7919 % 500:03}" for number in range(5 * PART_SIZE)]
    parts = parts_by_model([event(model_id, number) for number, model_id in enumerate(ids)])
    assert len(parts) == 5
    assert all(len(part) >= PART_SIZE for part in parts[:-1])
    found = [[one.model_id or "" for one in part] for part in parts]
    assert [*chain(*found)] == sorted(model_id or "" for model_id in ids)
    assert all(set(part).isdisjoint(other) for part, other in pairwise(found))
    # Of each model in their order.
    numbers = [int(one.event_id.removeprefix("evt_")) for part in parts for one in part if one.model_id == "m007"]
    assert numbers == sorted(numbers)


def test_one_model_is_one_part_whatever_its_events() -> None:
    events = [event("m", number) for number in range(4 * PART_SIZE)]
    assert parts_by_model(events) == [events]

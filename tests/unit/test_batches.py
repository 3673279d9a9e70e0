"""How a deep inbox is shared out among lanes, how much of it is read at once, and how a batch is halved."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

from service.broker.inbox import InboxEntry
from service.mirror.batches import BATCH_SIZE, LANES, MAX_READ_SIZE, MIN_BATCH_SIZE, assign_lanes, halves, next_size
from tests.support.system import event_body, new_id

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def entries(bodies: list[bytes]) -> list[InboxEntry]:
    return [InboxEntry(f"{number}-0", f"{number}", body, NOW, NOW) for number, body in enumerate(bodies)]


def test_what_is_told_of_one_model_stays_in_one_lane_in_its_order() -> None:
    models = [new_id() for _ in range(40)]
    dice = Random(1)
    told = [dice.choice(models) for _ in range(2 * BATCH_SIZE)]
    batch = entries([event_body(model) for model in told])
    shared = assign_lanes(batch)
    assert len(shared) == LANES
    lane_of = {entry.entry_id: number for number, lane in enumerate(shared) for entry in lane}
    assert len(lane_of) == len(batch)
    assert len({(model, lane_of[entry.entry_id]) for model, entry in zip(told, batch, strict=True)}) == len(models)
    assert all(lane == sorted(lane, key=batch.index) for lane in shared)


def test_few_entries_are_one_lane_and_none_are_none() -> None:
    batch = entries([event_body(new_id()) for _ in range(BATCH_SIZE)])
    assert assign_lanes(batch) == [batch]
    assert assign_lanes([]) == []


def test_what_names_no_model_has_a_lane_too() -> None:
    batch = entries([b"{}", b"\xff", b'{"_id": 7}'] * BATCH_SIZE)
    assert sum(map(len, assign_lanes(batch))) == len(batch)


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

"""The inbox over a real server, with both protocols that Redis speaks: nothing is lost, nothing is left behind."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import redis

from service.broker import durability, inbox
from service.broker.client import connect_redis
from service.broker.inbox import GROUP, RECLAIM_AFTER_MS, STREAM, Delivery, Inbox, InboxDepth
from service.errors import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Valkey

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, protocol=request.param, socket_timeout=5) as opened:
        yield opened


@pytest.fixture
def box(client: redis.Redis) -> Inbox:
    return Inbox(client, "one")


def put(box: Inbox, *bodies: bytes) -> None:
    for body in bodies:
        box.put(Delivery.arrived(body, 1767322800, NOW))


def bodies(entries: list[inbox.Delivery]) -> list[bytes]:
    return [entry.body for entry in entries]


def age_pending_entries(client: Any, consumer: str, milliseconds: int = RECLAIM_AFTER_MS) -> None:
    """Make the entries in flight at a consumer as old as if it had read them this many milliseconds ago."""
    for waiting in client.xpending_range(STREAM, GROUP, "-", "+", 1000, consumer):
        client.xclaim(STREAM, GROUP, consumer, 0, [waiting["message_id"]], idle=milliseconds)


def test_what_was_put_is_read_as_it_was(box: Inbox) -> None:
    put(box, b'{"a": "\xc3\xa9\x00"}')
    (entry,) = box.read(10, 0)
    assert entry.body == b'{"a": "\xc3\xa9\x00"}'
    assert (entry.signed_at, entry.received_at) == (datetime.fromtimestamp(1767322800, UTC), NOW)


def test_entries_come_in_order_and_not_more_than_asked_for(box: Inbox) -> None:
    put(box, b"1", b"2", b"3")
    assert bodies(box.read(2, 0)) == [b"1", b"2"]
    assert bodies(box.read(2, 0)) == [b"3"]
    assert box.read(2, 0) == []


@pytest.mark.parametrize(
    ("size", "trips"), [(2, [128, 512, 512, 512, 336]), (20_000, [128, 128])], ids=["small", "large"]
)
def test_later_trips_bring_more_where_bodies_are_small(
    box: Inbox, client: Any, monkeypatch: pytest.MonkeyPatch, size: int, trips: list[int]
) -> None:
    box.put(*[Delivery.arrived(b" " * size, 1767322800, NOW) for _ in range(2000)])
    read, taken = client.xreadgroup, []
    monkeypatch.setattr(
        client, "xreadgroup", lambda *given, **rest: taken.append(rest["count"]) or read(*given, **rest)
    )
    assert len(box.read(2000, 0)) == sum(trips)
    assert taken == trips


def test_nothing_is_left_in_the_stream_after_done(box: Inbox, client: Any) -> None:
    put(box, b"1", b"2")
    box.done(box.read(10, 0))
    assert client.xlen(STREAM) == 0
    assert client.xpending(STREAM, GROUP)["pending"] == 0
    assert box.depth() == InboxDepth(0, None)


def test_an_entry_stays_until_it_is_done(box: Inbox) -> None:
    put(box, b"1", b"2")
    first, _second = box.read(10, 0)
    box.done([first])
    assert box.depth().events == 1


def test_done_with_nothing_does_nothing(box: Inbox) -> None:
    box.done([])
    assert box.depth() == InboxDepth(0, None)


def test_two_consumers_share_the_stream_without_overlap(box: Inbox, client: redis.Redis) -> None:
    other = Inbox(client, "two")
    put(box, b"1", b"2", b"3", b"4")
    assert bodies(box.read(2, 0)) + bodies(other.read(10, 0)) == [b"1", b"2", b"3", b"4"]


def test_reading_waits_for_the_first_entry(box: Inbox) -> None:
    # The first read makes the group and does not wait.
    box.read(1, 0)
    before = time.monotonic()
    assert box.read(1, 1000) == []
    assert time.monotonic() - before > 0.9


def test_inbox_entries_of_dead_consumer_are_read_before_new(box: Inbox, client: redis.Redis) -> None:
    dead = Inbox(client, "dead")
    put(box, b"1", b"2")
    dead.read(10, 0)
    put(box, b"3")
    age_pending_entries(client, "dead")
    assert bodies(box.read(10, 0)) == [b"1", b"2"]
    assert bodies(box.read(10, 0)) == [b"3"]


def test_entries_in_a_living_consumers_hand_are_left_to_it(box: Inbox, client: redis.Redis) -> None:
    other = Inbox(client, "other")
    put(box, b"1")
    other.read(10, 0)
    age_pending_entries(client, "other", RECLAIM_AFTER_MS - 2000)
    assert box.read(10, 0) == []


def test_what_was_taken_over_can_be_taken_over_again(box: Inbox, client: redis.Redis) -> None:
    put(box, b"1")
    for consumer in ("a", "b", "c"):
        assert bodies(Inbox(client, consumer).read(10, 0)) == [b"1"]
        age_pending_entries(client, consumer)
    (last,) = box.read(10, 0)
    box.done([last])
    assert box.depth().events == 0


def test_entry_done_after_takeover_is_deleted_for_both_consumers(box: Inbox, client: Any) -> None:
    slow = Inbox(client, "slow")
    put(box, b"1")
    entries = slow.read(10, 0)
    age_pending_entries(client, "slow")
    again = box.read(10, 0)
    slow.done(entries)
    assert box.read(10, 0) == []
    box.done(again)
    assert client.xlen(STREAM) == 0


def test_the_group_is_made_again_after_redis_lost_everything(box: Inbox, client: Any) -> None:
    put(box, b"1")
    box.done(box.read(10, 0))
    client.flushall()
    assert box.read(10, 0) == []
    put(box, b"2")
    assert bodies(box.read(10, 0)) == [b"2"]


def test_a_group_that_was_lost_starts_from_the_first_entry(box: Inbox, client: Any) -> None:
    put(box, b"1", b"2")
    box.read(1, 0)
    client.xgroup_destroy(STREAM, GROUP)
    assert bodies(box.read(10, 0)) == [b"1", b"2"]


def test_two_processes_may_make_the_group_at_once(box: Inbox, client: redis.Redis) -> None:
    box._make_group()
    put(box, b"1")
    Inbox(client, "two")._make_group()
    assert bodies(box.read(10, 0)) == [b"1"]


def test_the_depth_counts_what_waits_and_what_is_in_hand(box: Inbox) -> None:
    put(box, b"1", b"2", b"3")
    box.read(1, 0)
    depth = box.depth()
    assert depth.events == 3
    assert depth.oldest_seconds is not None
    assert 0 <= depth.oldest_seconds < 60


def test_the_age_is_that_of_the_oldest_entry(box: Inbox, client: Any) -> None:
    seconds, _ = client.time()
    client.xadd(STREAM, {"body": b"1"}, id=f"{(seconds - 120) * 1000}-0")
    put(box, b"2")
    assert 119 <= (box.depth().oldest_seconds or 0) < 180


def test_foreign_inbox_entry_is_read_with_an_empty_body(box: Inbox, client: Any) -> None:
    client.xadd(STREAM, {"what": "is this"}, id="1767322800000-0")
    client.xadd(STREAM, {"body": b"1", "signed_at": "now", "received_at": "1e300"}, id="1767322800000-1")
    at = datetime.fromtimestamp(1767322800, UTC)
    expected = [(b"", at, at), (b"1", at, at)]
    assert [(entry.body, entry.signed_at, entry.received_at) for entry in box.read(10, 0)] == expected


def test_dead_consumers_are_removed_once_they_hold_no_entries(box: Inbox, client: Any) -> None:
    put(box, b"1", b"2")
    busy, idle = Inbox(client, "busy"), Inbox(client, "idle")
    busy.read(1, 0)
    idle.done(idle.read(1, 0))
    box.forget_dead_consumers()
    assert {consumer["name"] for consumer in client.xinfo_consumers(STREAM, GROUP)} == {b"busy", b"idle"}
    time.sleep(0.05)
    box.forget_dead_consumers(unseen_ms=1)
    assert {consumer["name"] for consumer in client.xinfo_consumers(STREAM, GROUP)} == {b"busy"}


def test_there_may_be_no_consumers_to_forget(box: Inbox) -> None:
    box.forget_dead_consumers()


def test_every_call_without_redis_is_an_error_of_ours() -> None:
    box = Inbox(connect_redis("redis://127.0.0.1:9"), "one")
    entry = inbox.Delivery(b"", NOW, NOW, "", entry_id="1-0")
    for call in (
        lambda: put(box, b"1"),
        lambda: box.read(1, 0),
        lambda: box.done([entry]),
        box.depth,
        box.forget_dead_consumers,
        lambda: durability.read_durability(connect_redis("redis://127.0.0.1:9")),
    ):
        with pytest.raises(RedisUnavailable):
            call()


def test_redis_refusing_writes_is_unavailable_until_it_accepts(own_valkey: Valkey) -> None:
    client: Any = connect_redis(own_valkey.url)
    box = Inbox(client, "one")
    client.config_set("maxmemory", "1")
    for _ in range(3):
        with pytest.raises(RedisUnavailable, match="used memory"):
            put(box, b"1")
    client.config_set("maxmemory", "0")
    # A refusal is quick, so nothing keeps the next call from trying.
    put(box, b"2")
    assert bodies(box.read(10, 0)) == [b"2"]


def test_durability_follows_from_the_settings_of_redis(own_valkey: Valkey) -> None:
    client: Any = connect_redis(own_valkey.url)
    assert durability.read_durability(client) == ("an event survives a power cut (appendfsync always)", ())
    client.config_set("appendfsync", "everysec")
    assert "survives a kill, not a power cut" in durability.read_durability(client).summary
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendonly", "no")
    promised = durability.read_durability(client)
    assert promised.summary.startswith("an event does not survive a restart of Redis")
    assert [fault.split()[0] for fault in promised.misconfigurations] == ["appendonly", "maxmemory-policy"]


def test_redis_without_config_permission_has_unknown_durability(own_valkey: Valkey) -> None:
    client: Any = connect_redis(own_valkey.url)
    client.acl_setuser("managed", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-config"])
    managed = connect_redis(f"redis://managed:p@127.0.0.1:{own_valkey.port}/0")
    assert durability.read_durability(managed).summary == "durability unknown (CONFIG is not allowed)"

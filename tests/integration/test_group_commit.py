"""Deliveries that wait for Redis at once: they go together, each is there once, and none waits for two time-outs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from service.broker.client import connect_redis
from service.broker.inbox import STREAM, Delivery, Inbox, PutResult
from service.broker.jobs import Job
from service.errors import RedisUnavailable
from service.web.group_commit import MAX_GROUP_BYTES, GroupCommit
from tests.support.processes import eventually, suspended

if TYPE_CHECKING:
    from service.local.servers import Valkey

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MANY = 60


def delivery(body: bytes) -> Delivery:
    return Delivery.arrived(body, int(NOW.timestamp()), NOW)


def put_all_at_once(group: GroupCommit, bodies: list[bytes]) -> list[PutResult | RedisUnavailable]:
    """Each from a thread of its own, at one moment: what came of each."""
    start = threading.Barrier(len(bodies))

    def put(body: bytes) -> PutResult | RedisUnavailable:
        start.wait(30)
        try:
            return group.put(delivery(body))
        except RedisUnavailable as error:
            return error

    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(put, bodies))


def test_those_that_wait_go_together_and_each_is_there_once(own_valkey: Valkey) -> None:
    bodies = [b"%d" % number for number in range(MANY)]
    with connect_redis(own_valkey.url, timeout=30) as client:
        group = GroupCommit(Inbox(client))
        # A delivery that comes while one hangs waits behind it.
        with ThreadPoolExecutor() as threads, suspended(own_valkey):
            first = threads.submit(group.put, delivery(b"first"))
            assert eventually(lambda: group._has_leader and not group._waiters)
            others = threads.submit(put_all_at_once, group, bodies)
            assert eventually(lambda: len(group._waiters) >= MANY)
        outcomes = [first.result(), *others.result()]
        assert sorted(entry.body for entry in Inbox(client).read(1000, 0)) == sorted([b"first", *bodies])
        # Each round trip asked once for the length.
        asked: Any = client.info("commandstats")
        assert asked["cmdstat_xlen"]["calls"] == 2
    assert all(isinstance(outcome, PutResult) for outcome in outcomes)
    # Of all of them one alone is to wake a worker.
    assert [outcome.flag_raised for outcome in outcomes if isinstance(outcome, PutResult)].count(True) == 1


def test_a_redis_that_hangs_costs_all_of_them_one_time_out(own_valkey: Valkey) -> None:
    with connect_redis(own_valkey.url) as client:
        group = GroupCommit(Inbox(client))
        group.put(delivery(b"it works"))
        before = time.monotonic()
        with suspended(own_valkey):
            outcomes = put_all_at_once(group, [b"%d" % number for number in range(MANY)])
        # Those who did not go with the first would have waited their own five seconds after that.
        assert time.monotonic() - before < 9
        assert all(isinstance(outcome, RedisUnavailable) for outcome in outcomes)
        # Nobody is left who leads: the next one goes at once.
        assert group.put(delivery(b"it works again")).length >= 2


def test_no_more_go_together_than_redis_takes_in_time(own_valkey: Valkey) -> None:
    large = [bytes([65 + number]) * (MAX_GROUP_BYTES // 2) for number in range(6)]
    with connect_redis(own_valkey.url) as client:
        group = GroupCommit(Inbox(client))
        assert all(isinstance(outcome, PutResult) for outcome in put_all_at_once(group, large))
        asked: Any = client.info("commandstats")
        assert asked["cmdstat_xlen"]["calls"] >= 3
        assert client.xlen(STREAM) == 6


def test_the_flag_is_raised_once_until_it_is_taken_down(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job.DRAIN, "flag_ms", 60_000)
    with connect_redis(redis_url) as client:
        group = GroupCommit(Inbox(client))
        assert [group.put(delivery(b"1")), group.put(delivery(b"2"))] == [PutResult(1, True), PutResult(2, False)]
        client.delete(Job.DRAIN.flag)
        assert group.put(delivery(b"3")) == PutResult(3, True)


def test_what_redis_has_no_room_for_is_refused_to_all_of_a_group(own_valkey: Valkey) -> None:
    with connect_redis(own_valkey.url) as client:
        group = GroupCommit(Inbox(client))
        client.config_set("maxmemory", "1")
        with pytest.raises(RedisUnavailable, match="used memory"):
            group.put(delivery(b"1"))
        client.config_set("maxmemory", "0")
        assert group.put(delivery(b"2")).length == 1

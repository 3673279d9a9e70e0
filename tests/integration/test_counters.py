"""Counts that processes share: exact over several processes and outages."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from service.broker.client import connect_redis
from service.broker.counters import BUCKETS, KEY, SUM, Counters, bucket_of, read
from service.errors import RedisUnavailable
from tests.support.processes import eventually
from tests.support.threads import run_concurrently

if TYPE_CHECKING:
    from service.local.servers import Valkey


def test_several_processes_and_threads_count_together(redis_url: str) -> None:
    with connect_redis(redis_url) as client:
        shares = [Counters(client) for _ in range(3)]

        def count(share: Counters) -> None:
            for _ in range(200):
                share.add("deliveries", "accepted")
            share.add("waited", "full", amount=0.25)
            share.flush()

        run_concurrently(*[lambda share=share: count(share) for share in shares for _ in range(2)])
        assert read(client) == {("deliveries", "accepted"): 1200, ("waited", "full"): 1.5}


def test_fields_that_are_no_counts_are_left_out(redis_url: str) -> None:
    with connect_redis(redis_url) as client:
        counters = Counters(client)
        counters.add("deliveries", "accepted")
        counters.flush()
        client.hset(KEY, mapping={"events|applied": "many", b"\xff": "1", "events|stale": "nan"})
        assert read(client) == {("deliveries", "accepted"): 1}


def sends(thread: threading.Thread, counters: Counters) -> bool:
    return getattr(thread, "function", None) == counters._flush_or_log


def test_nobody_has_to_send_what_was_counted(redis_url: str) -> None:
    with connect_redis(redis_url) as client:
        counters = Counters(client)
        for expected in (1, 2):
            counters.add("deliveries", "accepted")
            assert eventually(lambda expected=expected: read(client) == {("deliveries", "accepted"): expected})
            # The thread that sends ends then, and another one starts with the next count.
            # Counters of other tests may still wait for a Redis that never comes.
            assert eventually(lambda: not [one for one in threading.enumerate() if sends(one, counters)])


def test_each_second_of_counts_adds_no_exit_handler(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: list[object] = []
    monkeypatch.setattr("atexit.register", handlers.append)
    with connect_redis(redis_url) as client:
        counters = Counters(client)
        for _ in range(3):
            counters.add("deliveries", "accepted")
            counters.flush()
    assert len(handlers) == 1


def test_a_process_that_ends_sends_its_last_counts(redis_url: str) -> None:
    program = (
        "import sys; from service.broker.client import connect_redis; from service.broker.counters import Counters; "
        "Counters(connect_redis(sys.argv[1])).add('deliveries', 'accepted')"
    )
    subprocess.run([sys.executable, "-c", program, redis_url], check=True, timeout=60)
    with connect_redis(redis_url) as client:
        assert read(client) == {("deliveries", "accepted"): 1}


def test_an_outage_of_redis_loses_no_count(own_valkey: Valkey) -> None:
    with connect_redis(own_valkey.url, timeout=2) as client:
        counters = Counters(client)
        own_valkey.stop()
        counters.add("deliveries", "unavailable")
        with pytest.raises(RedisUnavailable):
            counters.flush()
        counters.add("deliveries", "unavailable")
        with pytest.raises(RedisUnavailable):
            counters.flush()
        own_valkey.boot()
        counters.flush()
        assert read(client) == {("deliveries", "unavailable"): 2}


def test_durations_fall_into_the_bucket_that_holds_them(redis_url: str) -> None:
    assert [bucket_of(seconds) for seconds in (-1.0, 0.0, 0.05, 0.051, 3600.0, 3601.0)] == [
        "0.05", "0.05", "0.05", "0.1", "3600", "+Inf",
    ]  # fmt: skip
    with connect_redis(redis_url) as client:
        counters = Counters(client)
        counters.observe("took", [0.2, 0.2, 7.0])
        counters.flush()
        found = read(client)
        assert found.pop(("took", SUM)) == pytest.approx(7.4)
        assert found == {("took", "0.25"): 2, ("took", "10"): 1}
    assert sorted(BUCKETS) == list(BUCKETS)

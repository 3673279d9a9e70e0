"""The fuse: who finds a server down spares the others, and one tries for all."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from service.circuit_breaker import OPEN_SECONDS, CircuitBreaker
from service.errors import RedisUnavailable


def fail(fuse: CircuitBreaker, calls: list[float], seconds: float = 0.0) -> None:
    with suppress(RedisUnavailable), fuse.guard():
        calls.append(time.monotonic())
        time.sleep(seconds)
        raise RedisUnavailable("down")


def test_circuit_breaker_pauses_after_a_failure_then_tries_once() -> None:
    fuse, calls = CircuitBreaker(RedisUnavailable, "Redis"), list[float]()
    for _ in range(1000):
        fail(fuse, calls)
    assert len(calls) == 1
    while len(calls) == 1:
        fail(fuse, calls)
    assert calls[1] - calls[0] >= OPEN_SECONDS


def test_a_slow_failure_counts_for_longer() -> None:
    fuse, calls = CircuitBreaker(RedisUnavailable, "Redis"), list[float]()
    fail(fuse, calls, 0.8)
    while len(calls) == 1:
        fail(fuse, calls)
    assert calls[1] - calls[0] >= 0.8 + 1.6


def test_a_success_lets_everybody_through() -> None:
    fuse, calls = CircuitBreaker(RedisUnavailable, "Redis"), list[float]()
    fail(fuse, calls)
    time.sleep(OPEN_SECONDS)
    for _ in range(3):
        with fuse.guard():
            pass


def test_those_who_are_turned_away_learn_why() -> None:
    fuse = CircuitBreaker(RedisUnavailable, "Redis")
    fail(fuse, [])
    with pytest.raises(RedisUnavailable, match="Redis was down a moment ago"), fuse.guard():
        pass

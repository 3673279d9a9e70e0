"""When an answer was true on the vendor's clock, and how long the client waits: for a 429, for the budget."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
import redis
from msgspec import structs
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.errors import (
    MirrorError,
    ModelNotFound,
    RedisUnavailable,
    Stopping,
    Throttled,
    UpstreamFailed,
)
from service.runtime import Runtime
from service.upstream.budget import Priority, RequestBudget
from tests.support.odd_vendor import MODEL, OddVendor, RecordedPauses, client_of, get, http, odd_vendor, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.mirror import Mirror

REFETCH = Priority.REFETCH


@pytest.fixture
def vendor() -> Iterator[OddVendor]:
    with odd_vendor(http(200, MODEL)) as running:
        yield running


def http_time(time_: datetime) -> str:
    return format_datetime(time_, usegmt=True)


# --- when an answer was true


@pytest.mark.parametrize("off", [timedelta(seconds=-45), timedelta(seconds=45), timedelta(0)])
def test_the_interval_lies_on_the_vendors_clock(vendor: OddVendor, off: timedelta) -> None:
    date = (datetime.now(UTC) + off).replace(microsecond=0)
    vendor.script(http(200, MODEL, Date=http_time(date)))
    answer = get(client_of(vendor))
    assert date - timedelta(seconds=12) < answer.sent_at <= date - timedelta(seconds=2)
    assert date + timedelta(seconds=1) <= answer.received_at < date + timedelta(seconds=11)


def test_slow_response_is_dated_from_its_request_to_its_end(vendor: OddVendor) -> None:
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
    vendor.script(vendor.slow(http(200, MODEL, Date=http_time(date)), 1.0))
    answer = get(client_of(vendor))
    assert answer.sent_at <= date - timedelta(seconds=3)
    assert answer.received_at >= date + timedelta(seconds=2)


@pytest.mark.parametrize(
    "date",
    [None, "", "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT", http_time(datetime.now(UTC) + timedelta(hours=1)), "-"],
    ids=["none", "empty", "word", "1970", "an hour ahead", "dash"],
)
def test_without_a_sane_date_our_own_clock_stands_in(vendor: OddVendor, date: str | None) -> None:
    vendor.script(http(200, MODEL, Date=date))
    before = datetime.now(UTC)
    answer = get(client_of(vendor))
    after = datetime.now(UTC)
    assert before - timedelta(seconds=12) < answer.sent_at <= before - timedelta(seconds=2) + (after - before)
    assert after <= answer.received_at < after + timedelta(seconds=11)


def test_a_404_carries_its_interval_too(vendor: OddVendor) -> None:
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)
    vendor.script(refusal(404, "NOT_FOUND", Date=http_time(date)))
    with pytest.raises(ModelNotFound) as raised:
        get(client_of(vendor))
    assert raised.value.sent_at < date - timedelta(seconds=1) < date < raised.value.received_at


# --- 429


def reset_in(seconds: float, date: datetime) -> dict[str, str]:
    reset = (date + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "Date": http_time(date),
        "X_RateLimit_Limit": "300",
        "X_RateLimit_Remaining": "0",
        "X_RateLimit_Reset": reset,
    }


def test_429_waits_until_its_reset_by_the_upstream_clock(vendor: OddVendor) -> None:
    date = datetime(2030, 1, 1, tzinfo=UTC)
    vendor.script(refusal(429, "RATE_LIMIT_EXCEEDED", **reset_in(42, date)), http(200, MODEL))
    pauses = RecordedPauses()
    assert get(client_of(vendor, pauses)).body.id == "m1"
    assert pauses == [42.0]


def from_now(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry_After": "7"}, [7.0, 7.0]),
        ({}, [0.5, 1.0]),
        ({"X_RateLimit_Reset": "soon", "Retry_After": "-4"}, [0.5, 1.0]),
        ({"Retry_After": "999999"}, [3600.0, 3600.0]),
        ({"Retry_After": "2.5"}, [2.5, 2.5]),
        ({"X_RateLimit_Reset": "30"}, [30.0, 30.0]),
        ({"X_RateLimit_Reset": "2020-01-01T00:00:00Z", "Retry_After": "7"}, [7.0, 7.0]),
        ({"X_RateLimit_Reset": "1577836800", "Retry_After": "7"}, [7.0, 7.0]),
        ({"X_RateLimit_Reset": "2020-01-01T00:00:00Z"}, [0.5, 1.0]),
        ({"Retry_After": "Wed, 01 Jan 2020 00:00:00 GMT"}, [0.5, 1.0]),
        ({"X_RateLimit_Reset": "999999999999999"}, [0.5, 1.0]),
    ],
)
def test_429_waits_for_the_given_time_or_longer_each_time(
    vendor: OddVendor, headers: dict[str, str], expected: list[float]
) -> None:
    limited = refusal(429, "RATE_LIMIT_EXCEEDED", **headers)
    vendor.script(limited, limited, http(200, MODEL))
    pauses = RecordedPauses()
    get(client_of(vendor, pauses))
    assert pauses == expected


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("X_RateLimit_Reset", lambda time_: str(int(time_.timestamp()))),
        ("X_RateLimit_Reset", lambda time_: f"{time_.timestamp():.3f}"),
        ("X_RateLimit_Reset", lambda time_: str(int(time_.timestamp() * 1000))),
        ("X_RateLimit_Reset", lambda time_: time_.isoformat()),
        ("Retry_After", http_time),
    ],
    ids=["epoch", "epoch with a fraction", "epoch ms", "iso", "http date"],
)
@pytest.mark.parametrize("status", [429, 503, 408])
def test_a_time_to_wait_for_is_read_in_every_form(
    vendor: OddVendor, name: str, form: Callable[[datetime], str], status: int
) -> None:
    vendor.script(refusal(status, **{name: form(from_now(60))}), http(200, MODEL))
    pauses = RecordedPauses()
    get(client_of(vendor, pauses))
    assert len(pauses) == 1
    if status != 429 and name == "X_RateLimit_Reset":
        # It is in every response of the vendor's: that of a fault says nothing of when to try again.
        assert pauses[0] <= 1
        return
    # From now on a busy machine may need a while.
    assert 40 < pauses[0] <= 61


@pytest.mark.parametrize("status", [500, 503])
def test_a_reset_is_no_reason_to_wait_while_requests_remain(vendor: OddVendor, status: int) -> None:
    headers = {"X_RateLimit_Limit": "300", "X_RateLimit_Remaining": "299", "X_RateLimit_Reset": "60"}
    vendor.script(refusal(status, **headers), http(200, MODEL))
    pauses = RecordedPauses()
    get(client_of(vendor, pauses))
    assert len(pauses) == 1
    assert pauses[0] <= 0.5


def test_a_503_is_waited_for_as_long_as_it_tells_then_given_up(vendor: OddVendor) -> None:
    vendor.script(http(503, b"<html>", Retry_After="20"))
    pauses = RecordedPauses()
    with pytest.raises(UpstreamFailed):
        get(client_of(vendor, pauses))
    assert pauses == [20.0, 20.0, 20.0]


def test_a_503_of_the_list_beyond_the_deadline_is_throttled(vendor: OddVendor) -> None:
    vendor.script(http(503, Retry_After="42"))
    with pytest.raises(Throttled) as raised:
        client_of(vendor).list_models(priority=REFETCH, max_wait=5.0)
    assert timedelta(seconds=30) < raised.value.retry_at - datetime.now(UTC) < timedelta(seconds=45)
    assert len(vendor.requests) == 1


def test_a_503_of_one_model_holds_nobody_up_for_long(vendor: OddVendor, redis_url: str) -> None:
    one, other = (RequestBudget(redis.Redis.from_url(redis_url), 0.8, 0.1) for _ in range(2))
    vendor.script(http(503, Retry_After="3600"))
    with pytest.raises(UpstreamFailed):
        get(client_of(vendor, budget=one), max_wait=5.0)
    assert other.acquire(REFETCH) == 0.0
    pauses = RecordedPauses()
    with pytest.raises(UpstreamFailed):
        get(client_of(vendor, pauses))
    assert pauses == [60.0, 60.0, 60.0]


def test_a_429_beyond_the_deadline_is_throttled(vendor: OddVendor) -> None:
    vendor.script(refusal(429, **reset_in(42, datetime.now(UTC))))
    with pytest.raises(Throttled) as raised:
        get(client_of(vendor), max_wait=5.0)
    assert timedelta(seconds=30) < raised.value.retry_at - datetime.now(UTC) < timedelta(seconds=45)
    assert len(vendor.requests) == 1


def test_who_is_asked_to_stop_stops_waiting(vendor: OddVendor) -> None:
    def stop(seconds: float) -> None:
        raise Stopping

    vendor.script(refusal(429, Retry_After="30"))
    with pytest.raises(Stopping):
        get(client_of(vendor, stop))


# --- budget


def test_without_redis_nothing_is_sent(vendor: OddVendor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    budget = RequestBudget(redis.Redis(port=port, retry=Retry(NoBackoff(), 0)), 0.8, 0.1)
    with pytest.raises(RedisUnavailable):
        get(client_of(vendor, budget=budget))
    assert vendor.requests == []


def test_budget_wait_beyond_max_wait_raises_throttled(vendor: OddVendor, redis_url: str) -> None:
    budget = RequestBudget(redis.Redis.from_url(redis_url), 0.8, 0.1)
    budget.block(time.time() + 60)
    with pytest.raises(Throttled) as raised:
        get(client_of(vendor, budget=budget), max_wait=10)
    assert isinstance(raised.value, MirrorError)
    assert raised.value.retry_at > datetime.now(UTC) + timedelta(seconds=40)
    assert vendor.requests == []


def test_a_429_holds_the_other_processes_too(vendor: OddVendor, redis_url: str) -> None:
    one, other = (RequestBudget(redis.Redis.from_url(redis_url), 0.8, 0.1) for _ in range(2))
    # Without rate headers, so that only the 429 itself can hold them.
    vendor.script(refusal(429, Retry_After="42"))
    with pytest.raises(Throttled):
        get(client_of(vendor, budget=one), max_wait=1)
    assert 35 < other.acquire(REFETCH) <= 42


def test_a_503_of_the_list_holds_the_other_processes_too(vendor: OddVendor, redis_url: str) -> None:
    one, other = (RequestBudget(redis.Redis.from_url(redis_url), 0.8, 0.1) for _ in range(2))
    vendor.script(http(503, Retry_After="42"))
    with pytest.raises(Throttled):
        client_of(vendor, budget=one).list_models(priority=REFETCH, max_wait=1.0)
    assert len(vendor.requests) == 1
    assert 35 < other.acquire(REFETCH) <= 42


def test_pull_pauses_while_the_list_is_503_and_then_completes(mirrored: Mirror) -> None:
    organization = mirrored.vendor.api("GET", "/organization").document
    page = mirrored.vendor.api("GET", "/organization/models?limit=200").document
    with odd_vendor(http(200, organization), http(503, Retry_After="40"), http(200, page)) as vendor:
        runtime = Runtime.build(structs.replace(mirrored.settings, headshotpro_api_url=vendor.url))
        pull_id = mirrored.slice(runtime=runtime, seconds=5.0)
        (row,) = mirrored.sql("select status, error from headshotpro.pulls where id = %s", pull_id)
        assert (row["status"], row["error"]) == ("running", None)
        # Nothing is sent meanwhile, then it goes on where it was.
        assert len(vendor.requests) == 2
        runtime.redis.flushdb()
        mirrored.expire_leases()
        mirrored.slice(runtime=runtime)
        (row,) = mirrored.sql("select status from headshotpro.pulls where id = %s", pull_id)
        assert row["status"] == "complete"

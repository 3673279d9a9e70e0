"""The request budget on a real Redis: what all processes together may send, and who comes first."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest
import redis

from service.errors import RedisUnavailable
from service.parent_death import die_with_parent
from service.upstream.budget import Priority, RequestBudget
from tests.support.processes import eventually

if TYPE_CHECKING:
    from service.local.servers import Valkey

REFETCH, DELETION, HOT, FULL, DETAIL, _ACCURACY = Priority

StartBudget = Callable[..., RequestBudget]


@pytest.fixture
def budget(redis_url: str) -> StartBudget:
    """Makes a process's view of the one budget; the limit is the vendor's default until a test notes another."""

    def make(
        share: float = 0.8, detail_share: float = 0.1, *, limit: int | None = None, window: float = 61.0
    ) -> RequestBudget:
        made = RequestBudget(redis.Redis.from_url(redis_url), share, detail_share, window=window)
        if limit is not None:
            # Its reset is past, so the limit alone counts, and not what remains of it.
            made.record_rate_limit(limit, limit, time.time() - 1)
        return made

    return make


def granted(budget: RequestBudget, priority: Priority, at_most: int = 1000) -> int:
    """How many requests of a priority may be sent at once."""
    count = 0
    while count < at_most and budget.acquire(priority) == 0:
        count += 1
    return count


def test_before_the_vendor_said_its_limit_it_is_300(budget: StartBudget) -> None:
    one = budget(0.8)
    assert one.requests_left() == 240
    assert granted(one, REFETCH) == 240
    assert one.requests_left() == 0
    assert 50 < one.acquire(REFETCH) <= 61


@pytest.mark.parametrize(
    ("limit", "share", "expected"), [(100, 0.29, 29), (1000, 0.8, 800), (300, 1.0, 300), (20, 0.01, 1), (1, 0.5, 1)]
)
def test_the_share_of_the_limit_is_ours_and_one_request_at_least(
    budget: StartBudget, limit: int, share: float, expected: int
) -> None:
    assert granted(budget(share, limit=limit), REFETCH) == expected


def test_the_newest_limit_holds(budget: StartBudget) -> None:
    one = budget(limit=100)
    one.record_rate_limit(20, 20, time.time() + 120)
    assert granted(one, REFETCH) == 16


# Each child asks a thousand times a second and prints when each request was granted.
ASKER = """
import json, sys, time
import redis
from service.upstream.budget import Priority, RequestBudget
url, window, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
budget = RequestBudget(redis.Redis.from_url(url), 0.5, 0.1, window=window)
print("ready", flush=True)
sys.stdin.readline()
until, times = time.time() + seconds, []
while time.time() < until:
    if budget.acquire(Priority.REFETCH) == 0:
        times.append(time.time())
    else:
        time.sleep(0.001)
print(json.dumps(times), flush=True)
"""


@pytest.mark.long
def test_processes_together_never_pass_the_share_in_any_window(redis_url: str, budget: StartBudget) -> None:
    window, seconds, share_of_limit = 4.0, 9.0, 30
    budget(0.5, limit=60, window=window)
    command = die_with_parent([sys.executable, "-c", ASKER, redis_url, str(window), str(seconds)], SIGKILL)
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert all(child.stdout.readline() == "ready\n" for child in children)
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    times = sorted(when for child in children for when in json.loads(child.communicate(timeout=60)[0]))
    # A child notes the time after the grant, so two notes may lie closer together than their grants by a little.
    most = max(sum(start <= when < start + window - 1 for when in times) for start in times)
    assert most == share_of_limit
    # And the window rolls: what was sent longer ago is free again.
    assert len(times) >= 2 * share_of_limit


def test_a_full_pull_leaves_the_last_tenth_to_refetches(budget: StartBudget) -> None:
    one = budget(1.0, limit=100)
    assert granted(one, FULL) == 90
    assert granted(one, REFETCH) == 10


def test_other_priorities_use_whole_budget_without_a_full_pull(budget: StartBudget) -> None:
    one = budget(1.0, 1.0, limit=100)
    assert [granted(one, priority) for priority in (DETAIL, HOT, DELETION, REFETCH)] == [80, 15, 3, 2]


def test_a_full_pull_keeps_a_quarter_however_much_the_others_ask(budget: StartBudget) -> None:
    one = budget(1.0, limit=100)
    assert granted(one, FULL, at_most=1) == 1
    assert granted(one, REFETCH) == 75
    assert one.acquire(HOT) > 0
    assert granted(one, FULL) == 24


def test_late_full_pull_gets_its_quarter_as_slots_become_free(budget: StartBudget) -> None:
    one = budget(1.0, limit=20, window=2.0)
    assert granted(one, REFETCH) == 20
    assert one.acquire(FULL) > 0
    shares = {REFETCH: 0, FULL: 0}

    def both_ask() -> bool:
        for priority in shares:
            shares[priority] += one.acquire(priority) == 0
        return shares[FULL] >= 5

    assert eventually(both_ask)
    assert shares[REFETCH] <= 15


def test_a_full_pull_that_asks_no_more_keeps_nothing(budget: StartBudget) -> None:
    one = budget(1.0, limit=4, window=4.0)
    assert granted(one, FULL, at_most=1) == 1
    assert granted(one, REFETCH) == 3
    # To ask in between would take the four one by one as they become free.
    time.sleep(4.2)
    assert granted(one, REFETCH) == 4


def test_details_have_their_own_share_and_none_where_it_is_zero(budget: StartBudget) -> None:
    assert granted(budget(1.0, 0.1, limit=100), DETAIL) == 10
    none = budget(1.0, 0.0, limit=100)
    assert none.acquire(DETAIL) > 0
    assert none.acquire(REFETCH) == 0


def test_nothing_is_sent_when_the_vendor_says_nothing_remains(budget: StartBudget) -> None:
    # Other clients of the organization use the same limit.
    one, other = budget(), budget()
    one.record_rate_limit(300, 0, time.time() + 30)
    assert 25 < other.acquire(REFETCH) <= 30
    assert other.requests_left() == 0


def test_what_remains_is_counted_down_between_responses(budget: StartBudget) -> None:
    one, other = budget(), budget()
    one.record_rate_limit(300, 3, time.time() + 30)
    assert one.requests_left() == 3
    assert granted(one, REFETCH, at_most=2) + granted(other, REFETCH) == 3


def test_after_the_reset_what_remained_is_forgotten(budget: StartBudget) -> None:
    one = budget()
    one.record_rate_limit(300, 0, time.time() + 1)
    assert one.acquire(REFETCH) > 0
    assert eventually(lambda: one.acquire(REFETCH) == 0)


def test_responses_out_of_order_bring_nothing_back(budget: StartBudget) -> None:
    one, reset = budget(), time.time() + 30
    one.record_rate_limit(300, 2, reset)
    one.record_rate_limit(300, 200, reset)
    # `Date` is cut to seconds, so the same reset is not always the same number.
    one.record_rate_limit(300, 200, reset + 1)
    one.record_rate_limit(300, 200, reset - 20)
    assert one.requests_left() == 2
    one.record_rate_limit(300, 200, reset + 20)
    assert one.requests_left() == 200


def test_headers_that_make_no_sense_are_harmless(budget: StartBudget) -> None:
    one = budget()
    one.record_rate_limit(0, 0, time.time() - 5)
    one.record_rate_limit(300, 0, time.time() + 10**6)
    assert one.acquire(REFETCH) == 0


def test_headers_that_redis_knows_cost_no_trip(own_valkey: Valkey) -> None:
    one, reset = RequestBudget(redis.Redis.from_url(own_valkey.url), 0.8, 0.1), time.time() + 30
    one.record_rate_limit(300, 200, reset)
    assert one.acquire(REFETCH) == 0
    own_valkey.stop()
    one.record_rate_limit(300, 199, reset + 0.9)
    one.record_rate_limit(300, 250, reset)
    for news in ((300, 198, reset), (300, 199, reset + 3), (1000, 199, reset)):
        with pytest.raises(RedisUnavailable):
            one.record_rate_limit(*news)


def test_headers_after_a_reset_are_recorded(budget: StartBudget) -> None:
    one = budget()
    one.record_rate_limit(300, 0, time.time() + 0.3)
    assert eventually(lambda: one.acquire(REFETCH) == 0)
    one.record_rate_limit(300, 5, time.time() + 0.9)
    assert one.requests_left() == 5


def test_a_429_holds_every_process_until_the_reset(budget: StartBudget) -> None:
    one, other = budget(), budget()
    one.block(time.time() + 40)
    # A shorter one does not end it.
    one.block(time.time() + 1)
    for priority in Priority:
        assert other.acquire(priority) > 35
    assert other.requests_left() == 0


def test_a_block_ends(budget: StartBudget) -> None:
    one = budget()
    one.block(time.time() + 1)
    assert one.acquire(REFETCH) > 0
    assert eventually(lambda: one.acquire(REFETCH) == 0)


def test_keys_carry_our_prefix(redis_url: str, budget: StartBudget) -> None:
    assert budget(1.0, 1.0, limit=100).acquire(DETAIL) == 0
    with redis.Redis.from_url(redis_url) as client:
        keys = client.keys()
    assert len(keys) == 4
    assert all(key.startswith(b"headshotpro:budget") for key in keys)


def test_a_redis_that_is_gone_is_our_error(own_valkey: Valkey) -> None:
    one = RequestBudget(redis.Redis.from_url(own_valkey.url), 0.8, 0.1)
    assert one.acquire(REFETCH) == 0
    own_valkey.stop()
    calls = (
        lambda: one.acquire(REFETCH),
        one.requests_left,
        lambda: one.block(0),
        lambda: one.record_rate_limit(1, 1, 0),
    )
    for call in calls:
        with pytest.raises(RedisUnavailable, match="Redis cannot be reached"):
            call()


def test_a_long_full_pull_is_spread_over_the_limit(budget: StartBudget) -> None:
    one, pages = budget(0.8), 1000
    assert one.acquire(FULL, pages) == 0
    # 240 in 61 s.
    assert 0 < one.acquire(FULL, pages) <= 0.26
    assert eventually(lambda: one.acquire(FULL, pages) == 0)


def test_a_full_pull_within_one_window_is_not_spread(budget: StartBudget) -> None:
    one = budget(0.8)
    assert [one.acquire(FULL, 240) for _ in range(50)] == [0.0] * 50


def test_refetches_find_slots_beside_a_long_full_pull(budget: StartBudget) -> None:
    one = budget(0.8)
    # As a long pull leaves the window after its first minute.
    assert granted(one, FULL) == 216
    assert granted(one, REFETCH, at_most=22) == 22
    assert one.acquire(FULL, 1000) > 0
    assert one.acquire(REFETCH) == 0

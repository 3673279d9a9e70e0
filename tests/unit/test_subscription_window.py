"""One subscription's changes between feed and receiver: order, retries, batches, a receiver that is down, states."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.subscriptions.deliveries import Delivery, QueuedChange
from service.subscriptions.policy import DAY, SendingPolicy
from service.subscriptions.window import Window
from tests.support.searching import examples

NOW = 1_800_000_000.0
POLICY = SendingPolicy()


def window(*models: str, batch: int | None = None, policy: SendingPolicy = POLICY) -> Window:
    """A window that has read one change of each model named, with the ids 1, 2, …"""
    opened = Window(policy, 0, batch)
    opened.add([QueuedChange(number, model) for number, model in enumerate(models, 1)], len(models))
    return opened


def ids(deliveries: list[Delivery]) -> list[list[int]]:
    return [[change.change_id for change in delivery.changes] for delivery in deliveries]


class Table:
    """The table in Postgres: one process writes it, and the next one begins with it."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.read_to = 0

    def write(self, window: Window) -> None:
        gone, waiting = window.unwritten()
        nothing = {"batch": None, "first_failed_at": None, "due_at": None, "status": None, "error": None}
        self.rows.update((row["change_id"], {**nothing, **row}) for row in waiting)
        for number in gone:
            del self.rows[number]
        self.read_to = window.read_to
        window.written()

    def reopen(self, batch: int | None = None) -> Window:
        window = Window(POLICY, self.read_to, batch)
        window.load([self.rows[number] for number in sorted(self.rows)])
        return window


def reopened(before: Window) -> Window:
    """The window of the next process, after this one has written down what it knows."""
    table = Table()
    table.write(before)
    return table.reopen(before.batch)


def test_models_are_sent_side_by_side_and_each_in_its_order() -> None:
    here = window("a", "b", "a", "c")
    first, second, third = here.take_due(NOW)
    assert ids([first, second, third]) == [[1], [2], [4]]
    here.acknowledged(second, NOW)
    assert here.take_due(NOW) == []
    here.acknowledged(first, NOW)
    assert ids(here.take_due(NOW)) == [[3]]


def test_no_more_requests_than_allowed_are_in_flight() -> None:
    here = window(*(f"m{number}" for number in range(20)))
    taken = here.take_due(NOW)
    assert len(taken) == POLICY.parallel
    here.acknowledged(taken[0], NOW)
    assert ids(here.take_due(NOW)) == [[9]]


def test_cursor_is_the_lowest_change_that_is_not_acknowledged() -> None:
    here = window("a", "b", "c")
    first, second, third = here.take_due(NOW)
    assert here.cursor == 1
    here.acknowledged(second, NOW)
    here.acknowledged(third, NOW)
    assert here.cursor == 1
    here.acknowledged(first, NOW)
    assert here.cursor == 4


def test_failed_change_holds_up_its_own_model_alone() -> None:
    here = window("a", "a", "b")
    first, other = here.take_due(NOW)
    here.failed(first, NOW, 500, "500")
    here.acknowledged(other, NOW)
    assert here.take_due(NOW) == []
    assert here.wakes_at() == NOW + 1
    assert here.take_due(NOW + 1) == [first]
    here.failed(first, NOW + 1, None, "no response in time")
    assert here.wakes_at() == NOW + 3
    (again,) = here.take_due(NOW + 3)
    here.acknowledged(again, NOW + 3)
    assert ids(here.take_due(NOW + 3)) == [[2]]


def test_pauses_double_up_to_an_hour_and_obey_retry_after() -> None:
    pauses = [POLICY.retry_pause(attempts, None) for attempts in range(1, 16)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert max(pauses) == pauses[-1] == 3600
    assert POLICY.retry_pause(1, 60) == 60
    assert POLICY.retry_pause(1, 1e9) == 3600
    assert POLICY.retry_pause(10**6, 0) == 3600


def fail_until_down(here: Window) -> list[Delivery]:
    failed = here.take_due(NOW)
    for delivery in failed:
        here.failed(delivery, NOW, 503, "503")
    return failed


def test_receiver_that_is_down_gets_one_request_at_a_time() -> None:
    here = window(*(f"m{number}" for number in range(20)))
    assert len(fail_until_down(here)) == POLICY.failures_until_down
    assert here.take_due(NOW) == []
    assert here.wakes_at() == NOW + 1
    (probe,) = here.take_due(NOW + 1)
    assert here.take_due(NOW + 1) == []
    here.failed(probe, NOW + 1, 503, "503")
    assert here.wakes_at() == NOW + 3
    (probe,) = here.take_due(NOW + 3)
    here.acknowledged(probe, NOW + 3)
    # Requests that failed while it was down are sent at once, the lowest changes first.
    assert ids(here.take_due(NOW + 3))[:3] == [[1], [2], [3]]


def test_probes_go_on_and_are_five_minutes_apart_at_most() -> None:
    here = window(*(f"m{number}" for number in range(8)))
    fail_until_down(here)
    now, seen = NOW, set()
    for _ in range(30):
        now = here.wakes_at()
        (probe,) = here.take_due(now)
        seen.add(probe.first)
        here.failed(probe, now, None, "no response")
    assert here.wakes_at() - now == POLICY.longest_probe
    # No change alone decides whether the receiver is back.
    assert len(seen) == 8


def test_batch_takes_what_waits_in_order_up_to_its_size() -> None:
    here = window("a", "b", "a", "a", "c", batch=3)
    (first,) = here.take_due(NOW)
    assert ids([first]) == [[1, 2, 3]]
    here.acknowledged(first, NOW)
    assert ids(here.take_due(NOW)) == [[4, 5]]


def test_full_batches_of_other_models_are_sent_side_by_side() -> None:
    here = window("a", "b", "a", "c", "d", batch=2)
    first, second = here.take_due(NOW)
    assert ids([first, second]) == [[1, 2], [4, 5]]
    here.acknowledged(second, NOW)
    assert here.take_due(NOW) == []
    here.acknowledged(first, NOW)
    assert ids(here.take_due(NOW)) == [[3]]


def test_next_batch_fills_up_while_one_is_in_flight() -> None:
    here = window("a", batch=10)
    (first,) = here.take_due(NOW)
    here.add([QueuedChange(2, "b"), QueuedChange(3, "c")], 3)
    assert here.take_due(NOW) == []
    here.acknowledged(first, NOW)
    assert ids(here.take_due(NOW)) == [[2, 3]]


def test_retried_batch_is_the_same_in_another_process() -> None:
    here = window("a", "b", batch=10)
    (first,) = here.take_due(NOW)
    here.add([QueuedChange(3, "c")], 3)
    # The first process was killed in the middle of the request.
    there = reopened(here)
    carried = ids(there.take_due(NOW))
    assert carried[0] == [1, 2] == [change.change_id for change in first.changes]
    assert [3] in carried or there.in_flight == 1


def test_next_process_keeps_attempts_and_pauses() -> None:
    here = window("a", "a", "b")
    first, other = here.take_due(NOW)
    here.failed(first, NOW, 500, "500")
    here.acknowledged(other, NOW)
    there = reopened(here)
    assert there.take_due(NOW) == []
    (again,) = there.take_due(NOW + 1)
    assert (again.first, again.attempts, again.first_failed_at, again.status) == (1, 1, NOW, 500)


def test_three_days_of_failures_are_failing_and_seven_disabled() -> None:
    here = window("a")
    (delivery,) = here.take_due(NOW)
    here.failed(delivery, NOW, 500, "it said 500")
    for days, state in ((2.9, "active"), (3.0, "failing"), (6.9, "failing"), (7.0, "disabled")):
        here.judge(NOW + days * DAY)
        assert here.state == state, days
    assert here.reason == "change 1 has failed 1 times: it said 500"
    assert here.take_due(NOW + 8 * DAY) == []
    assert here.cursor == 1


def test_failing_subscription_is_active_again_after_a_success() -> None:
    here = window("a")
    (delivery,) = here.take_due(NOW)
    here.failed(delivery, NOW, 500, "500")
    here.judge(NOW + 4 * DAY)
    (delivery,) = here.take_due(NOW + 4 * DAY)
    here.acknowledged(delivery, NOW + 4 * DAY)
    here.judge(NOW + 4 * DAY)
    assert (here.state, here.reason) == ("active", None)


def test_410_disables_and_keeps_the_cursor() -> None:
    here = window("a", "b")
    first, _ = here.take_due(NOW)
    here.gone(first, NOW)
    assert (here.state, here.reason, here.cursor) == ("disabled", "the receiver responded 410", 1)
    assert here.take_due(NOW + DAY) == []


def test_window_has_room_for_what_is_acknowledged() -> None:
    here = window("a", "b", policy=SendingPolicy(window=2))
    assert here.room == 0
    here.acknowledged(here.take_due(NOW)[0], NOW)
    assert here.room == 1


def test_only_what_differs_is_written() -> None:
    here = window("a", "b")
    first, second = here.take_due(NOW)
    here.acknowledged(first, NOW)
    gone, waiting = here.unwritten()
    assert (gone, [row["change_id"] for row in waiting]) == ([], [2])
    here.written()
    assert here.unwritten() == ([], [])
    here.acknowledged(second, NOW)
    assert here.unwritten() == ([2], [])
    assert here.delivered == 1


def test_row_of_a_write_with_unknown_outcome_is_deleted() -> None:
    """The connection broke on commit: Postgres may have the rows, so an acknowledgement has to delete them."""
    here = window("a")
    here.unwritten()
    here.acknowledged(*here.take_due(NOW), NOW)
    assert here.unwritten() == ([1], [])


@given(st.integers(0, 2**32), st.sampled_from([None, 1, 3, 10]), st.floats(0, 0.9))
@settings(max_examples=examples(150), deadline=None)
def test_every_change_arrives_in_order_whatever_fails(seed: int, batch: int | None, failures: float) -> None:
    """Random models, failures, hangs and killed processes: nothing is skipped, each model is in order."""
    rng = random.Random(seed)
    models = [rng.choice("abcdefgh") for _ in range(60)]
    table, now, flying = Table(), NOW, list[Delivery]()
    here = table.reopen(batch)
    arrived: dict[str, list[int]] = {model: [] for model in models}
    done: set[int] = set()
    for _ in range(100_000):
        if here.read_to < len(models) and rng.random() < 0.5:
            read = here.read_to + 1
            here.add([QueuedChange(read, models[read - 1])], read)
        flying += here.take_due(now)
        if batch or rng.random() < 0.2:
            table.write(here)
        assert len({change.model_id for one in flying for change in one.changes}) == sum(
            len({change.model_id for change in one.changes}) for one in flying
        )
        if rng.random() < 0.01:
            # Killed: what was in flight is lost.
            here, flying = table.reopen(batch), []
        elif flying:
            one = flying.pop(rng.randrange(len(flying)))
            if rng.random() < failures:
                here.failed(one, now, 500, "500")
            else:
                here.acknowledged(one, now)
                for change in one.changes:
                    arrived[change.model_id].append(change.change_id)
                    done.add(change.change_id)
        elif here.cursor > len(models):
            break
        else:
            now = max(now, min(here.wakes_at(), now + 3600)) + rng.random()
    assert done == set(range(1, len(models) + 1))
    for model, got in arrived.items():
        firsts = list(dict.fromkeys(got))
        assert firsts == sorted(firsts), model


def test_window_reads_more_for_many_or_where_nothing_else_is_due() -> None:
    opened = window(*"abcdefgh", policy=SendingPolicy(window=10))
    assert (opened.hungry(2), opened.hungry(3)) == (True, False)
    opened.take_due(NOW)
    assert opened.hungry(3)
    opened.add([QueuedChange(9, "i"), QueuedChange(10, "j")], 10)
    opened.take_due(NOW)
    assert not opened.hungry(3)


def test_window_names_the_changes_that_come_next() -> None:
    opened = window(*"aabcdefghij")
    assert opened.upcoming(3) == [1, 3, 4]
    opened.take_due(NOW)
    assert opened.upcoming(9) == [10, 11]

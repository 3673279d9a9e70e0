"""The change feed as a sender reads it: how many transactions it costs, and how old a row may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import asdict

from service.mirror.erasure import erase_now
from service.storage import database, subscription_feed, subscriptions
from service.storage.database import transaction
from service.subscriptions.commands import SubscriptionBody
from service.subscriptions.feed import FeedReader
from service.subscriptions.policy import SendingPolicy
from service.subscriptions.state import SubscriptionState
from service.subscriptions.window import Window
from tests.support.acting import TESTER
from tests.support.drainer import T0, minutes
from tests.support.system import event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.drainer import Drainer


class Reading:
    """A reader whose transactions are counted, and the subscriptions that it reads for."""

    def __init__(self, drainer: Drainer, fresh: float) -> None:
        self._drainer = drainer
        self.engine = database.connect(drainer.url)
        self.feed = FeedReader(self.engine, fresh)
        self.statements = 0
        database.on_statement_executed(self.engine, self._count)

    def _count(self) -> None:
        self.statements += 1

    def state(self, name: str, window: int = 1000, statuses: Sequence[str] = ()) -> SubscriptionState:
        with transaction(self._drainer.engine) as connection:
            assert subscriptions.add(
                connection, "whsec_none", **asdict(SubscriptionBody(name, "http://127.0.0.1:9/", statuses))
            )
            rows = {row["name"]: row for row in subscription_feed.lease(connection, "a", 60)}
        return SubscriptionState(rows[name], Window(SendingPolicy(window=window), 0))


@pytest.fixture
def reading(drainer: Drainer, request: pytest.FixtureRequest) -> Iterator[Reading]:
    made = Reading(drainer, getattr(request, "param", 60.0))
    yield made
    made.engine.dispose()


def take_models(drainer: Drainer, count: int, status: str = "waiting") -> None:
    drainer.take(*(event_body(new_id(), at=T0, status=status) for _ in range(count)))


def test_subscriptions_at_one_place_share_a_reading(drainer: Drainer, reading: Reading) -> None:
    wide, narrow = reading.state("wide"), reading.state("narrow", window=2)
    take_models(drainer, 5)
    assert reading.feed.poll([wide, narrow])
    assert (wide.window.read_to, narrow.window.read_to) == (5, 2)
    # The settings of the transaction, the newest change, and one page for both.
    assert reading.statements == 3
    # Changes that were just read are sent from memory.
    assert set(reading.feed.changes([1, 5], [])) >= {1, 5}
    # The narrow one has no room, and the wide one nothing new.
    reading.feed.read_for([wide, narrow])
    assert reading.statements == 3
    assert not reading.feed.poll([wide, narrow])


def test_changes_that_no_filter_admits_are_not_kept(drainer: Drainer, reading: Reading) -> None:
    narrow = reading.state("narrow", statuses=("waiting",))
    take_models(drainer, 3, status="active")
    take_models(drainer, 1)
    reading.feed.poll([narrow])
    assert narrow.window.read_to == 4
    assert list(reading.feed.changes([4], [])) == [4]


@pytest.mark.parametrize("reading", [0.0], indirect=True)
def test_kept_changes_are_forgotten_though_none_is_due(drainer: Drainer, reading: Reading) -> None:
    wide = reading.state("wide")
    for _ in range(2):
        take_models(drainer, 2)
        reading.feed.poll([wide])
    assert wide.window.read_to == 4
    assert sorted(reading.feed.kept) == [3, 4]


@pytest.mark.parametrize("reading", [0.0], indirect=True)
def test_changes_that_come_next_are_read_with_those_that_are_due(drainer: Drainer, reading: Reading) -> None:
    take_models(drainer, 5)
    found = reading.feed.changes([1], [2, 3])
    assert (sorted(found), reading.statements) == ([1, 2, 3], 2)


@pytest.mark.parametrize("reading", [0.0], indirect=True)
def test_change_that_was_read_a_while_ago_is_read_again(drainer: Drainer, reading: Reading) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, title="Ada", status="waiting"))
    assert reading.feed.changes([1], [])[1]["row"]["title"] == "Ada"
    drainer.take(event_body(model, "model.deleted", at=minutes(1)))
    assert erase_now(drainer.engine, model, TESTER)
    assert reading.feed.changes([1], [])[1]["row"]["title"] is None

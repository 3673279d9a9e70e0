"""Subscriptions in Postgres: leases, changes with their rows, progress, and what retention keeps for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from msgspec.structs import asdict

from service.mirror.erasure import erase_now
from service.mirror.retention import RetentionLimits, apply_limits
from service.storage import subscription_feed, subscriptions
from service.storage.database import transaction
from service.storage.subscription_feed import Progress
from service.subscriptions.commands import SubscriptionBody
from tests.support.acting import TESTER
from tests.support.drainer import T0, minutes
from tests.support.system import event_body, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from tests.support.drainer import Drainer

SECRET = "whsec_" + "a" * 43


@pytest.fixture
def connection(drainer: Drainer) -> Iterator[Connection]:
    with transaction(drainer.engine) as opened:
        yield opened


def add(drainer: Drainer, name: str = "orders", **options: Any) -> dict[str, Any]:
    with transaction(drainer.engine) as connection:
        assert subscriptions.add(connection, SECRET, **asdict(SubscriptionBody(name, "http://127.0.0.1:9/", **options)))
    return one(drainer, name)


def one(drainer: Drainer, name: str = "orders") -> dict[str, Any]:
    with transaction(drainer.engine) as connection:
        found = subscriptions.one(connection, name)
    assert found is not None
    return found


def lease(drainer: Drainer, holder: str = "a", seconds: float = 20.0) -> list[dict[str, Any]]:
    with transaction(drainer.engine) as connection:
        return subscription_feed.lease(connection, holder, seconds)


def write(drainer: Drainer, progress: Progress, holder: str = "a") -> bool:
    with transaction(drainer.engine) as connection:
        return bool(subscription_feed.write_progress(connection, holder, [progress]))


def changes_of_one_model(drainer: Drainer) -> str:
    model = new_id()
    drainer.take(event_body(model, at=T0, title="Ada", status="waiting"))
    drainer.take(event_body(model, at=minutes(1), title="Ada L.", status="active"))
    drainer.take(event_body(model, at=minutes(2), title="Ada Lovelace", status="active"))
    return model


def test_subscription_begins_behind_the_newest_change(drainer: Drainer) -> None:
    changes_of_one_model(drainer)
    (newest,) = rows(drainer.url, "select max(id) as id from headshotpro.model_changes")
    added = add(drainer)
    assert (added["cursor"], added["unread"], added["waiting"], added["state"]) == (newest["id"] + 1, 0, 0, "active")
    assert "secret" not in added


def test_each_change_has_its_row_as_the_change_left_it(drainer: Drainer, connection: Connection) -> None:
    model = changes_of_one_model(drainer)
    changes = subscription_feed.read_after(connection, 0, 100)
    shown = [(change["row"]["status"], change["row"]["title"]) for change in changes]
    assert shown == [("waiting", "Ada"), ("active", "Ada L."), ("active", "Ada Lovelace")]
    assert [change["row"]["updated_at"] for change in changes] == [change["recorded_at"] for change in changes]
    newest = {name: value for name, value in drainer.row(model).items() if name in changes[-1]["row"]}
    assert changes[-1]["row"] == newest
    assert subscription_feed.read(connection, [changes[1]["id"], 4711]) == [changes[1]]


def test_rows_of_past_changes_lose_erased_fields_alone(drainer: Drainer) -> None:
    model = changes_of_one_model(drainer)
    drainer.take(event_body(model, at=minutes(3), event="model.deleted", title="Ada Lovelace"))
    with transaction(drainer.engine) as connection:
        before = subscription_feed.read_after(connection, 0, 100)
    erase_now(drainer.engine, model, TESTER)
    with transaction(drainer.engine) as connection:
        after = subscription_feed.read(connection, [change["id"] for change in before])
    for old, new in zip(before, after, strict=True):
        lost = {name for name, value in old["row"].items() if new["row"][name] != value}
        assert "title" in lost
        assert lost <= {"title", "uid", "trigger", "email"}
        assert "Ada" not in str(new)


def test_a_lease_is_renewed_by_its_holder_and_free_after_its_end(drainer: Drainer) -> None:
    add(drainer)
    assert [row["name"] for row in lease(drainer)] == ["orders"]
    assert [row["name"] for row in lease(drainer)] == ["orders"]
    assert lease(drainer, "b") == []
    lease(drainer, seconds=-1)
    assert [row["name"] for row in lease(drainer, "b")] == ["orders"]
    assert lease(drainer) == []


def test_paused_and_disabled_subscriptions_are_not_leased(drainer: Drainer, connection: Connection) -> None:
    add(drainer)
    with transaction(drainer.engine) as other:
        assert subscriptions.pause(other, "orders")
    assert lease(drainer) == []
    with transaction(drainer.engine) as other:
        assert subscriptions.resume(other, "orders")
    assert len(lease(drainer)) == 1
    assert not subscriptions.pause(connection, "nosuch")


def waiting_row(change_id: int, **fields: Any) -> dict[str, Any]:
    return {"change_id": change_id, "model_id": "m", "attempts": 0, **fields}


def test_progress_is_written_by_the_holder_of_this_version_alone(drainer: Drainer) -> None:
    changes_of_one_model(drainer)
    number = add(drainer)["id"]
    (version,) = (row["version"] for row in lease(drainer))
    first = Progress(
        number, version, 1, 3, delivered=1, waiting=[waiting_row(1), waiting_row(2, attempts=2, status=500)]
    )
    assert write(drainer, first)
    shown = one(drainer)
    assert (shown["cursor"], shown["waiting"], shown["delivered"], shown["unread"]) == (1, 2, 1, 0)
    assert write(drainer, Progress(number, version, 2, 3, delivered=1, acknowledged=[1], failure=(500, "no")))
    shown = one(drainer)
    assert (shown["cursor"], shown["waiting"], shown["delivered"], shown["failed_status"]) == (2, 1, 2, 500)
    assert not write(drainer, Progress(number, version, 4, 3, acknowledged=[2]), "b")
    with transaction(drainer.engine) as connection:
        assert subscriptions.replay(connection, "orders", 2) == 2
    assert not write(drainer, Progress(number, version, 4, 3, acknowledged=[2]))
    shown = one(drainer)
    assert (shown["cursor"], shown["waiting"], shown["unread"]) == (2, 0, 2)


def test_state_that_a_person_sets_stays(drainer: Drainer) -> None:
    number = add(drainer)["id"]
    (version,) = (row["version"] for row in lease(drainer))
    with transaction(drainer.engine) as connection:
        subscriptions.pause(connection, "orders")
    assert write(drainer, Progress(number, version, 1, 0, state="failing", reason="500", release=True))
    assert (one(drainer)["state"], one(drainer)["reason"], one(drainer)["holder"]) == ("paused", None, None)


@pytest.mark.parametrize(
    ("since", "first"),
    [
        (None, 1),
        (2, 2),
        (datetime(2020, 1, 1, tzinfo=UTC), 1),
        (datetime.now(UTC) + timedelta(days=1), 4),
        (99, 4),
    ],
)
def test_replay_begins_at_a_change_or_a_time(drainer: Drainer, since: Any, first: int) -> None:
    changes_of_one_model(drainer)
    add(drainer)
    with psycopg.connect(drainer.url, autocommit=True) as other:
        other.execute("update headshotpro.subscriptions set state = 'disabled', reason = '410'")
    with transaction(drainer.engine) as connection:
        assert subscriptions.replay(connection, "orders", since) == first
    shown = one(drainer)
    assert (shown["cursor"], shown["state"], shown["reason"], shown["replays"]) == (first, "active", None, 1)


def test_replay_from_a_time_reads_few_changes(drainer: Drainer) -> None:
    """Of a million changes, a walk in the order of ids would read most."""
    add(drainer)
    with psycopg.connect(drainer.url, autocommit=True) as other:
        # One a minute, in turn by two machines; one of their clocks is 90 seconds ahead.
        other.execute(
            "insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at) "
            "select 'm', '{}', 'pull', now(), now() - make_interval(mins => 6000 - n, secs => -90 * (n % 2)) "
            "from generate_series(1, 6000) as n"
        )
        other.execute("analyze headshotpro.model_changes")
    (wanted,) = rows(
        drainer.url,
        "select min(id) as id, now() - interval '1 hour' as since from headshotpro.model_changes "
        "where recorded_at >= now() - interval '1 hour'",
    )
    with transaction(drainer.engine) as connection:
        assert subscriptions.replay(connection, "orders", wanted["since"]) == wanted["id"]
        (read,) = connection.exec_driver_sql(
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'model_changes'"
        ).scalars()
    assert read < 20


def test_two_secrets_sign_for_a_day_after_a_rotation(drainer: Drainer, connection: Connection) -> None:
    add(drainer)
    with transaction(drainer.engine) as other:
        assert subscriptions.rotate(other, "orders", "whsec_new")
        assert not subscriptions.rotate(other, "nosuch", "whsec_new")
    assert subscriptions.secrets(connection, "orders") == ["whsec_new", SECRET]
    assert one(drainer)["previous_secret_until"]
    with psycopg.connect(drainer.url, autocommit=True) as other:
        other.execute("update headshotpro.subscriptions set previous_secret_until = now()")
    with transaction(drainer.engine) as later:
        assert subscriptions.secrets(later, "orders") == ["whsec_new"]
    assert one(drainer)["previous_secret_until"] is None


def test_retention_keeps_undelivered_changes_until_disabled(drainer: Drainer) -> None:
    add(drainer)
    changes_of_one_model(drainer)
    changes_of_one_model(drainer)
    number = one(drainer)["id"]
    (version,) = (row["version"] for row in lease(drainer))
    assert write(drainer, Progress(number, version, 3, 6, waiting=[waiting_row(3), waiting_row(4)]))
    limits = RetentionLimits(events=36500, history=1, personal=36500)
    with psycopg.connect(drainer.url, autocommit=True) as other:
        other.execute("update headshotpro.model_changes set recorded_at = now() - interval '2 days'")

    def kept() -> list[int]:
        assert apply_limits(drainer.engine, limits, 10)
        return [row["id"] for row in rows(drainer.url, "select id from headshotpro.model_changes order by id")]

    assert kept() == [3, 4, 5, 6]
    with psycopg.connect(drainer.url, autocommit=True) as other:
        other.execute("update headshotpro.subscriptions set state = 'disabled'")
    # The newest stays in any case.
    assert kept() == [6]
    with transaction(drainer.engine) as connection:
        assert subscription_feed.waiting(connection, number) == []
    assert one(drainer)["cursor"] == 3


def test_no_more_than_a_hundred_subscriptions_are_added(drainer: Drainer, connection: Connection) -> None:
    for number in range(subscriptions.MAX_SUBSCRIPTIONS):
        assert subscriptions.add(connection, SECRET, **asdict(SubscriptionBody(f"s{number}", "http://127.0.0.1/")))
    assert not subscriptions.add(connection, SECRET, **asdict(SubscriptionBody("one more", "http://127.0.0.1/")))
    assert len(subscriptions.list_rows(connection)) == subscriptions.MAX_SUBSCRIPTIONS
    assert subscriptions.remove(connection, "s1")
    assert not subscriptions.remove(connection, "s1")

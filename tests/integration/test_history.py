"""History: a model as it stood at any time, what set each of its fields, and a feed that readers can rely on."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.mirror.apply import apply
from service.mirror.detail_sweep import sweep
from service.mirror.merge import Observation
from service.storage.database import transaction
from tests.support.cli import Cli
from tests.support.drainer import T0, Drainer, minutes
from tests.support.feed_reader import BEGIN, follow
from tests.support.processes import eventually
from tests.support.system import event_body, new_id, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import StartMirror

AS_OF = "select * from headshotpro.model_as_of(%s, %s)"


class Enough(Exception):
    """Ends a reader that would read for ever."""


class Killed(Exception):
    """Ends a reader in the middle of its work."""


# --- model_as_of


def test_a_model_is_shown_as_it_stood_at_any_time(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    seen: list[tuple[datetime, list[dict[str, Any]]]] = []

    def look() -> None:
        """Remember the row of this moment."""
        row = here.sql("select * from headshotpro.models where id = %s", model["id"])
        seen.append((here.sql("select clock_timestamp() as now")[0]["now"], row))

    (model,) = here.create(status="pending")
    look()
    here.pull()
    look()
    for fields in ({"status": "failed"}, {"status": "pending"}, {"status": "active", "title": "Somebody else"}):
        here.advance_vendor_clock()
        here.change(model["id"], **fields, events=True)
        here.apply_webhooks()
        look()
    here.advance_vendor_clock()
    sweep(here.runtime.engine, here.runtime.client, 5)
    look()
    here.advance_vendor_clock()
    here.vendor.control("DELETE", f"/models/{model['id']}?events=1")
    here.apply_webhooks()
    look()
    assert [row[0]["status"] if row else None for _, row in seen] == [
        None, "pending", "failed", "pending", "active", "active", "deleted",
    ]  # fmt: skip
    assert seen[-2][1][0]["photo_count"] is not None
    for moment, row in seen:
        assert here.sql(AS_OF, model["id"], moment) == row
    long_after = datetime.now(UTC) + timedelta(days=400)
    assert here.sql(AS_OF, model["id"], long_after) == seen[-1][1]
    assert here.sql(AS_OF, "nobody", long_after) == []


def test_any_history_can_be_looked_at_from_any_time(drainer: Drainer) -> None:
    # Seeded: statuses that are missing at first, values that come and go, several changes in one transaction.
    dice = random.Random(7)
    model = new_id()
    seen: list[tuple[datetime, list[dict[str, Any]]]] = []

    def look() -> None:
        row = rows(drainer.url, "select * from headshotpro.models where id = %s", model)
        seen.append((rows(drainer.url, "select clock_timestamp() as now")[0]["now"], row))

    look()
    for number in range(24):
        fields: dict[str, Any] = {
            "title": dice.choice((None, "Ada", "Grace")),
            "finished_at": dice.choice((None, T0, minutes(1))),
            "photo_count": dice.choice((None, 0, 40)),
            "is_development": dice.choice((None, False, True)),
        }
        if number > 3:
            fields["status"] = dice.choice((None, "waiting", "active"))
        at = minutes(number)
        with transaction(drainer.engine) as connection:
            apply(connection, [Observation(model, at, at, fields)], "pull")
        look()
    for moment, row in seen:
        assert rows(drainer.url, AS_OF, model, moment) == row


# --- models show


def test_models_show_explains_where_each_field_comes_from(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="pending", createdAt="2024-01-15T12:00:00.000Z")
    pull = here.pull()
    here.advance_vendor_clock()
    order = {"event": "model.status.updated", "modelId": model["id"], "id": "evt_1"}
    here.vendor.control("POST", "/events", {**order, "object": {"status": "active", "title": "Ada Lovelace"}})
    here.apply_webhooks()
    here.change(model["id"], status="active", title="Ada Lovelace", photoCount=80)
    here.advance_vendor_clock()
    sweep(here.runtime.engine, here.runtime.client, 5)
    cli = Cli(folder, **here.variables)
    shown = cli.run("models", "show", model["id"], "--explain", "--json").document
    origin = {name: (told["source"], told["event_id"], told["pull_id"]) for name, told in shown["explain"].items()}
    by_pull, by_event, by_get = ("pull", None, pull["id"]), ("webhook", "evt_1", None), ("refetch", None, None)
    for name in ("uid", "email", "team_id", "created_at"):
        assert origin[name] == by_pull, name
    for name in ("status", "title", "trigger", "organization_id"):
        assert origin[name] == by_event, name
    assert origin["photo_count"] == by_get
    # No source ever showed a favourite.
    assert "favorite_photo_id" not in origin
    by_number = {change["id"]: change for change in here.changes(model["id"])}
    newest = max(by_number)
    assert datetime.fromisoformat(shown["explain"]["photo_count"]["observed_at"]) == by_number[newest]["observed_at"]
    assert [change["id"] for change in shown["history"]] == sorted(by_number, reverse=True)
    assert shown["title"] == "Ada Lovelace"

    plain = cli.run("models", "show", model["id"], "--explain").out
    (title,) = [line for line in plain.splitlines() if line.startswith("title ")]
    assert "Ada Lovelace" in title
    assert "by webhook evt_1, as of " in title
    (email,) = [line for line in plain.splitlines() if line.startswith("email ")]
    assert f"by pull {pull['id']}, as of " in email
    missing = cli.run("models", "show", "nobody")
    assert (missing.status, missing.out) == (1, "")


# --- the feed


@pytest.fixture
def reader(drainer: Drainer) -> Drainer:
    """A reader that has read everything so far, and a table of its own into which it copies."""
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute(BEGIN)
        connection.execute("create table copied (number bigserial, change_id bigint not null)")
    return drainer


def make_changes(drainer: Drainer, number: int) -> None:
    drainer.take(*[event_body(new_id()) for _ in range(number)])


def copy(db: psycopg.Connection[Any], told: Any) -> None:
    db.execute("insert into copied (change_id) values (%s)", [told.id])


def copied(drainer: Drainer) -> list[int]:
    return [row["change_id"] for row in rows(drainer.url, "select change_id from copied order by number")]


def all_changes(drainer: Drainer) -> list[int]:
    return [row["id"] for row in rows(drainer.url, "select id from headshotpro.model_changes order by id")]


def test_reader_handles_each_change_once_across_restarts(reader: Drainer) -> None:
    over = threading.Event()

    def run(seed: int) -> None:
        """One of two processes that are the same reader; it dies in mid-batch again and again."""
        dice = random.Random(seed)

        def handle(db: psycopg.Connection[Any], told: Any) -> None:
            if over.is_set():
                raise Enough
            copy(db, told)
            if dice.random() < 0.05:
                raise Killed

        while not over.is_set():
            with suppress(Killed, Enough):
                follow(reader.url, handle)

    readers = [threading.Thread(target=run, args=(seed,)) for seed in range(2)]
    for one in readers:
        one.start()
    for _ in range(20):
        make_changes(reader, 3)
    expected = all_changes(reader)
    assert len(expected) == 60
    assert eventually(lambda: copied(reader) == expected), copied(reader)
    over.set()
    # Readers that sleep are woken by the next change.
    while any(one.is_alive() for one in readers):
        make_changes(reader, 1)
        time.sleep(0.05)
    assert copied(reader) == expected


def test_a_reader_that_fell_behind_what_is_kept_is_told(reader: Drainer) -> None:
    make_changes(reader, 5)
    kept = all_changes(reader)[3:]
    rows(reader.url, "delete from headshotpro.model_changes where id < %s returning id", kept[0])
    with pytest.raises(LookupError, match="no longer kept"):
        follow(reader.url, copy)
    assert copied(reader) == []


def test_a_reader_that_has_read_what_is_no_longer_kept_goes_on(reader: Drainer) -> None:
    def stop_at_6(db: psycopg.Connection[Any], told: Any) -> None:
        copy(db, told)
        if len(copied(reader)) == 5:
            raise Enough

    make_changes(reader, 5)

    def run() -> None:
        with suppress(Enough):
            follow(reader.url, stop_at_6)

    one = threading.Thread(target=run)
    one.start()
    assert eventually(lambda: len(copied(reader)) == 5)
    rows(reader.url, "delete from headshotpro.model_changes returning id")
    make_changes(reader, 1)
    one.join(10)
    assert not one.is_alive()

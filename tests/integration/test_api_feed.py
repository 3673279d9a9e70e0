"""The feed of our API: `updatedSince` shows every change, deletions too, and its cursor never skips one."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import Api
from tests.support.webhook_endpoint import assert_refused

if TYPE_CHECKING:
    from tests.support.mirror import Mirror


@pytest.fixture
def api(mirrored: Mirror) -> Api:
    return Api.of(mirrored)


def follow(api: Api, since: object, limit: int = 7, query: str = "") -> tuple[dict[str, Any], int]:
    """Every model in the feed since a cursor, in its last version, and the cursor at the end."""
    told: dict[str, Any] = {}
    while True:
        document = api.get(f"?updatedSince={since}&limit={limit}{query}")
        told |= {model["id"]: model for model in document["models"]}
        since = document["pagination"]["cursor"]
        if not document["pagination"]["hasMore"]:
            return told, since


def test_from_the_beginning_it_tells_every_model_as_it_is_now(mirrored: Mirror, api: Api) -> None:
    told, cursor = follow(api, 0)
    assert told == {model["id"]: model for model in api.get("?limit=200&includeDeleted=true")["models"]}
    assert api.get(f"?updatedSince={cursor}")["models"] == []
    # The list names the place too: read it whole, then follow.
    assert int(api.call("GET", "?limit=1").headers["X-Mirror-Cursor"]) == cursor


def test_feed_shows_changes_and_with_any_filter_deletions(mirrored: Mirror, api: Api) -> None:
    _, cursor = follow(api, 0)
    changed, gone, *_ = api.ids("?status=active&limit=5")
    mirrored.advance_vendor_clock()
    mirrored.change(changed, title="Somebody else")
    mirrored.vendor.api("DELETE", f"/organization/models/{gone}")
    assert api.call("DELETE", f"/{gone}").json["code"] == "ALREADY_DELETED"
    mirrored.set_switches(deleted="listed")
    mirrored.pull()
    told, _ = follow(api, cursor)
    assert {one: told[one]["status"] for one in told} == {changed: "active", gone: "deleted"}
    # Changes may be skipped too; a reader that skips all of them learns where they end.
    (later,) = api.get(f"?updatedSince={cursor}&offset=1")["models"]
    assert later["id"] in told
    assert api.get(f"?updatedSince={cursor}&offset=99")["pagination"]["hasMore"] is False
    told, _ = follow(api, cursor, query="&status=failed")
    assert set(told) == {gone}


def test_a_time_is_a_place_too(mirrored: Mirror, api: Api) -> None:
    mirrored.sql("update headshotpro.model_changes set recorded_at = now() - interval '1 day'")
    mirrored.sql("update headshotpro.models set updated_at = now() - interval '1 day'")
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert follow(api, since)[0] == {}
    changed = api.ids("?limit=1")[0]
    mirrored.advance_vendor_clock()
    mirrored.change(changed, title="Somebody else")
    mirrored.pull()
    assert set(follow(api, since)[0]) == {changed}
    assert len(follow(api, "2020-01-01T00:00:00Z")[0]) == 40
    assert follow(api, "2099-01-01T00:00:00Z")[0] == {}


def test_updated_since_skips_no_change_recorded_out_of_order(mirrored: Mirror, api: Api) -> None:
    ids = api.ids("?limit=2")
    mirrored.sql("update headshotpro.model_changes set recorded_at = now() - interval '1 day'")
    mirrored.sql("update headshotpro.models set updated_at = now() - interval '1 day'")
    write = """
        insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at)
        values (%s, '{}', 'pull', now(), now() - make_interval(secs => %s))
    """
    # The first of two machines has a clock that is ahead.
    mirrored.sql(write, ids[0], 0)
    mirrored.sql(write, ids[1], 20)
    since = (datetime.now(UTC) - timedelta(seconds=10)).isoformat().replace("+00:00", "Z")
    assert set(follow(api, since)[0]) == set(ids)


def test_where_changes_are_no_longer_kept_it_says_so(mirrored: Mirror, api: Api) -> None:
    _, cursor = follow(api, 0)
    changed = api.ids("?limit=1")[0]
    mirrored.advance_vendor_clock()
    mirrored.change(changed, title="Somebody else")
    mirrored.pull()
    mirrored.sql("delete from headshotpro.model_changes where id <= %s", cursor)
    # A reader of every deleted change goes on; a reader that missed one gets an error.
    assert set(follow(api, cursor)[0]) == {changed}
    for place in (0, cursor - 5, "2020-01-01T00:00:00Z"):
        assert_refused(api.call("GET", f"?updatedSince={place}"), 410, "GONE")


def test_readers_who_follow_while_many_write_miss_nothing(mirrored: Mirror, api: Api) -> None:
    from service.storage import merged
    from service.storage.database import transaction

    ids = api.ids("?limit=40")
    _, cursor = follow(api, 0)
    now = datetime.now(UTC)
    done = threading.Event()

    def write(mine: list[str]) -> None:
        for one in mine:
            row = {"model_id": one, "changed": {}, "source": "pull", "observed_at": now}
            with transaction(mirrored.runtime.engine) as connection:
                merged.append(connection, [row], now)

    writers = [threading.Thread(target=write, args=(ids[number::4],)) for number in range(4)]
    for writer in writers:
        writer.start()
    told: set[str] = set()
    while not done.is_set():
        if not any(writer.is_alive() for writer in writers):
            done.set()
        news, cursor = follow(api, cursor, limit=3)
        told |= set(news)
    assert told == set(ids)

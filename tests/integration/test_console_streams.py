"""The console's streams over HTTP: each new row once, to those who may see it, whatever the order of commits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.browser import serving
from tests.support.console import VIEWER, console, log_in
from tests.support.console_streams import StreamReader, many_streams, session_cookie, streams_of
from tests.support.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask

CHANGE = """
    insert into headshotpro.model_changes (model_id, to_status, changed, source, event_id, observed_at, recorded_at)
    values (%s, 'active', '{"title": [null, "Ann"]}', %s, %s, now(), now()) returning id
"""
EVENT = """
    insert into headshotpro.webhook_events (id, event, model_id, status, received_at, processed_at)
    values (%s, 'model.status.updated', %s, 'applied', now() - make_interval(secs => %s), now())
"""


@pytest.fixture(scope="module")
def app(database: str, valkey: Any, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    made = console(tmp_path_factory.mktemp("web"), database, valkey.url, CONSOLE_SHOW_NAMES="0").application
    streams_of(made).poll_seconds = 0.05
    return made


@pytest.fixture(scope="module")
def url(app: Flask) -> Iterator[str]:
    with serving(app) as found:
        yield found


@pytest.fixture(scope="module")
def cookie(url: str) -> str:
    return session_cookie(url)


@pytest.fixture
def db(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def change(db: psycopg.Connection[Any], model: str, source: str = "pull", event: str | None = None) -> str:
    row = db.execute(CHANGE, [model, source, event]).fetchone()
    assert row
    return event or f"c{row[0]}"


def test_stream_names_new_rows_of_its_filter_and_no_value(url: str, cookie: str, db: psycopg.Connection[Any]) -> None:
    with StreamReader(url, cookie, "changes&source=pull") as stream, StreamReader(url, cookie, "events") as events:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert stream.response.headers["Cache-Control"] == "no-store"
        stream.ready()
        events.ready()
        change(db, "m1", "webhook", "evt_1")
        db.execute(EVENT, ["evt_1", "m1", 0])
        wanted = change(db, "m1")
        found = next(one for one in stream.messages() if one.data)
        assert found.data == f'{{"keys": ["{wanted}"], "more": false, "seconds": 1.0}}'
        assert events.keys() == ["evt_1"]


def test_timeline_counts_an_event_and_its_change_once(url: str, cookie: str, db: psycopg.Connection[Any]) -> None:
    with StreamReader(url, cookie, "timeline&model=m2") as stream:
        stream.ready()
        with db.transaction():
            db.execute(EVENT, ["evt_2", "m2", 0])
            change(db, "m2", "webhook", "evt_2")
            db.execute(EVENT, ["evt_3", "m3", 0])
        assert stream.keys() == ["evt_2"]


def test_event_committed_after_a_newer_one_is_not_skipped(
    url: str, cookie: str, database: str, db: psycopg.Connection[Any]
) -> None:
    with StreamReader(url, cookie, "events&model=m4") as stream, psycopg.connect(database) as late:
        stream.ready()
        late.execute(EVENT, ["evt_late", "m4", 5])
        db.execute(EVENT, ["evt_newer", "m4", 0])
        assert stream.keys() == ["evt_newer"]
        late.commit()
        assert stream.keys() == ["evt_late"]


def test_page_is_sent_to_ask_where_too_much_is_new(url: str, cookie: str, db: psycopg.Connection[Any]) -> None:
    with StreamReader(url, cookie, "changes&model=nowhere") as stream:
        stream.ready()
        db.execute(
            "insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at) "
            "select 'm6', '{}', 'pull', now(), now() from generate_series(1, 600)"
        )
        assert next(one.data for one in stream.messages() if one.data) == '{"keys": [], "more": true, "seconds": 1.0}'


def test_stream_beyond_the_limit_is_refused(app: Flask, url: str, cookie: str) -> None:
    streams = streams_of(app)
    assert eventually(lambda: streams.number == 0)
    with many_streams(url, cookie, streams.most), StreamReader(url, cookie, "changes") as refused:
        assert refused.status == 503
        assert refused.response.headers["Retry-After"] == "30"
        assert streams.number == streams.most == 50
        # Pages are not streams: they have their own limit.
        browser = app.test_client()
        log_in(browser)
        assert browser.get("/console/changes").status_code == 200
    # No heartbeat has failed yet: the closed connections were seen.
    assert eventually(lambda: streams.number == 0, 10)


def test_viewers_may_read_and_others_are_sent_to_the_login(app: Flask, url: str) -> None:
    with StreamReader(url, session_cookie(url, VIEWER), "events") as stream:
        assert stream.status == 200
        stream.ready()
    with StreamReader(url, "headshotpro_console=forged", "events") as stream:
        assert (stream.status, stream.response.headers["Location"]) == (
            303, "/console/login?next=/console/stream?of%3Devents",
        )  # fmt: skip
    browser = app.test_client()
    log_in(browser)
    for wrong in ("", "?of=all", "?of=events&model=%00"):
        assert browser.get(f"/console/stream{wrong}").status_code == 400


def test_session_ends_when_its_cookie_does(folder: Path, database_url: str, redis_url: str) -> None:
    # Another test's pages may be open in this process.
    others = {*threading.enumerate()}
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    streams = streams_of(browser.application)
    streams.poll_seconds = 0.05
    seconds: list[float] = []
    opened = streams.open

    def note(wanted: Any, session_seconds: float, socket: Any) -> Any:
        seconds.append(session_seconds)
        return opened(wanted, 0.0, socket)

    streams.open = note  # type: ignore[method-assign]
    assert browser.get("/console/stream?of=changes").text == "retry: 1000\n\n"
    assert 12 * 3600 - 60 < seconds[0] <= 12 * 3600
    # Its reader may hold the database of this test for a moment more.
    streams.stop()
    assert eventually(lambda: all(thread.name != "console streams" for thread in {*threading.enumerate()} - others))

"""What open pages ask for again: made once for all who would see the same, and nothing of one session."""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.storage import alerts, history
from service.web.console import parts, streams
from tests.support.console import OPERATOR, VIEWER, console, log_in
from tests.support.console_world import fill
from tests.support.processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

HEADERS = {"Console-Part": "main"}


@pytest.fixture
def browser(folder: Path, database_url: str, redis_url: str) -> FlaskClient:
    fill(database_url)
    found = console(folder, database_url, redis_url)
    log_in(found)
    return found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each time that the page of changes is made; a part is kept without end, and the machine is new."""
    started = monotonic()
    monkeypatch.setattr(parts, "monotonic", lambda: monotonic() - started)
    monkeypatch.setattr(parts, "KEPT_SECONDS", 600.0)
    monkeypatch.setattr(streams, "LEAST_SECONDS", 600.0)
    monkeypatch.setattr(streams, "MOST_SECONDS", 600.0)
    calls: list[int] = []
    read = history.page

    def count(*arguments: object, **facts: object) -> object:
        calls.append(len(calls))
        return read(*arguments, **facts)  # type: ignore[arg-type]

    monkeypatch.setattr(history, "page", count)
    return calls


def part(browser: FlaskClient, path: str = "/console/changes", **headers: str) -> TestResponse:
    return browser.get(path, headers={**HEADERS, **headers})


def waits_for_lock(database_url: str) -> bool:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select from pg_locks where not granted").fetchone()
    return row is not None


def other(browser: FlaskClient, password: str = OPERATOR) -> FlaskClient:
    visitor = browser.application.test_client()
    log_in(visitor, password)
    return visitor


def test_part_is_the_content_of_the_page_without_a_token(browser: FlaskClient) -> None:
    found, page = part(browser), browser.get("/console/changes")
    assert found.text.strip().startswith("<main")
    assert found.text.strip().endswith("</main>")
    assert found.text.strip() in page.text
    assert "csrf_token" in page.text
    assert "csrf_token" not in found.text
    assert part(browser, **{"If-None-Match": found.headers["ETag"]}).status_code == 304


def test_part_is_made_once_for_all_who_see_the_same(browser: FlaskClient, made: list[int]) -> None:
    visitors = [other(browser) for _ in range(8)]
    found: list[str] = []
    threads = [threading.Thread(target=lambda one=one: found.append(part(one).text)) for one in visitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(found)), made) == (8, 1, [0])
    # Another filter, another role, and the page itself are made for themselves.
    part(browser, "/console/changes?source=pull")
    part(other(browser, VIEWER))
    browser.get("/console/changes")
    assert made == [0, 1, 2, 3]


def test_viewer_gets_no_part_of_an_operator(browser: FlaskClient) -> None:
    path = "/console/alerts"
    assert "/console/acts/" in part(browser, path).text
    assert "/console/acts/" not in part(other(browser, VIEWER), path).text


def test_part_of_another_address_is_not_shown(browser: FlaskClient) -> None:
    assert part(browser, "/console/changes?x=?").status_code == 200
    assert part(browser, "/console/changes%3Fx=").status_code == 404


def test_part_is_made_again_after_a_message(browser: FlaskClient, made: list[int]) -> None:
    part(browser)
    part(browser, **{"Console-Part": "7.1"})
    part(browser, **{"Console-Part": "7.1"})
    assert made == [0, 1]


def test_part_waits_while_messages_go_on_coming(
    browser: FlaskClient, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(streams.Streams, "rest", lambda _streams, seconds: pauses.append(seconds))
    for message in ("7.1", "7.2", "7.3", "7.4", "7.5"):
        part(browser, **{"Console-Part": message})
    assert made == [0, 1, 2, 3, 4]
    # Rows that come alone are shown at once, though the page was just made.
    assert len(pauses) == 2
    assert 0 < pauses[0] < 600 < pauses[1] < 1200


def test_polling_pages_get_the_last_part_until_the_next_is_due(
    browser: FlaskClient, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(streams.Streams, "rest", lambda _streams, _seconds: None)
    for _ in range(5):
        part(browser)
    assert made == [0, 1, 2]


def test_a_request_that_waited_for_a_part_gives_way(
    browser: FlaskClient, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    monkeypatch.setattr(parts, "give_way", lambda: turns.append("others"))
    makes, go_on = threading.Event(), threading.Event()
    read = history.page

    def wait_and_read(*given: Any, **named: Any) -> Any:
        makes.set()
        go_on.wait(60)
        return read(*given, **named)

    monkeypatch.setattr(history, "page", wait_and_read)
    threads = [threading.Thread(target=part, args=[one]) for one in [other(browser) for _ in range(4)]]
    threads[0].start()
    assert makes.wait(60)
    for thread in threads[1:]:
        thread.start()
    assert eventually(lambda: all(is_in(thread, "find") for thread in threads[1:]))
    go_on.set()
    for thread in threads:
        thread.join()
    assert (made, len(turns)) == ([0], 3)


def is_in(thread: threading.Thread, function: str) -> bool:
    """Whether a thread executes this function, or waits in it."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name == function


def test_rest_of_a_part_ends_when_the_process_stops(browser: FlaskClient, made: list[int]) -> None:
    for message in ("7.1", "7.2", "7.3"):
        part(browser, **{"Console-Part": message})
    waiting = threading.Thread(target=part, args=[browser], kwargs={"Console-Part": "7.4"})
    waiting.start()
    assert eventually(lambda: is_in(waiting, "wait"))
    assert len(made) == 3
    browser.application.extensions["console_streams"].stop()
    waiting.join(60)
    assert len(made) == 4


def test_request_beside_a_resting_maker_is_served(
    browser: FlaskClient, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rests, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(parts, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(streams.Streams, "rest", lambda _streams, _seconds: (rests.set(), go_on.wait(30)))
    visitors = [other(browser) for _ in range(2)]
    # After a rest three may begin at once.
    for message in ("6.1", "6.2", "6.3"):
        part(browser, **{"Console-Part": message})
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one, of=of: statuses.append(part(one, **{"Console-Part": of}).status_code))
        for one, of in zip(visitors, ("7.1", "7.2"), strict=True)
    ]
    threads[0].start()
    assert rests.wait(60)
    threads[1].start()
    threads[1].join(1)
    go_on.set()
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]


def test_part_of_a_message_is_shared_by_earlier_readers(
    browser: FlaskClient, database_url: str, made: list[int]
) -> None:
    first = part(browser)
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from headshotpro.model_changes")
    second = part(browser, **{"Console-Part": "7.1"})
    assert part(browser).headers["ETag"] == second.headers["ETag"] != first.headers["ETag"]
    assert made == [0, 1]


def test_last_part_is_shown_while_the_next_is_made(
    browser: FlaskClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "KEPT_SECONDS", 0.0)
    last = part(browser)
    statuses: list[int] = []
    maker = other(browser)
    with psycopg.connect(database_url) as blocker:
        blocker.execute("lock table headshotpro.model_changes in access exclusive mode")
        thread = threading.Thread(target=lambda: statuses.append(part(maker).status_code))
        thread.start()
        assert eventually(lambda: waits_for_lock(database_url))
        # It waits for no lock: it has the last part, which is tagged as it was.
        found = part(browser, **{"If-None-Match": last.headers["ETag"]})
        assert (found.status_code, statuses) == (304, [])
    thread.join()
    assert statuses == [200]


def test_part_that_failed_is_made_again(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(alerts, "page_resolved", None)
        assert part(browser, "/console/alerts").status_code == 500
    assert part(browser, "/console/alerts").status_code == 200


def test_part_with_a_token_is_kept_for_nobody(browser: FlaskClient) -> None:
    path = "/console/acts/acknowledge/1"
    first, second = part(browser, path).text, part(other(browser), path).text
    assert "csrf_token" in first
    assert first != second

"""How much of a web process the console may take, so that deliveries come first."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from flask import Flask

from service.web.console import limits
from service.web.console.limits import Cached, Refreshed, RequestSlots
from tests.support.console import console, log_in
from tests.support.processes import eventually
from tests.support.system import event_body, new_id
from tests.support.webhook_endpoint import post

if TYPE_CHECKING:
    from pathlib import Path


def test_requests_beyond_the_slots_are_refused_until_one_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAIT_SECONDS", 0.01)
    slots = RequestSlots(slots=1)
    app = Flask(__name__)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait(30)
        return "held"

    app.before_request(slots.take)
    app.teardown_request(slots.give_back)
    app.get("/")(hold)
    first = threading.Thread(target=lambda: app.test_client().get("/"))
    first.start()
    assert entered.wait(30)
    refused = app.test_client().get("/")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "5"
    leave.set()
    first.join()
    assert app.test_client().get("/").status_code == 200
    # A refused request gives nothing back that it did not take.
    assert app.test_client().get("/").status_code == 200


def test_value_that_many_read_at_once_is_read_once() -> None:
    reads: list[int] = []
    shared = Cached(lambda: reads.append(1) or len(reads), 60.0)
    threads = [threading.Thread(target=shared.get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.get() == len(reads) == 1


def test_slow_value_is_read_anew_while_the_last_one_is_shown() -> None:
    may_read = threading.Event()

    def read() -> str:
        may_read.wait(30)
        return "new"

    value = Refreshed(read, lambda: "first", 60.0)
    assert value.get() == value.get() == "first"
    may_read.set()
    assert eventually(lambda: value.get() == "new")


def test_value_that_was_not_asked_for_is_read_before_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REFRESH_SECONDS", 30)
    reads = iter(range(10))
    value = Refreshed(lambda: next(reads), lambda: None, 0.0)
    assert [value.get() for _ in range(3)] == [0, 1, 2]


def test_page_that_waits_for_postgres_delays_no_delivery(folder: Path, database_url: str, redis_url: str) -> None:
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    pages: list[int] = []
    with psycopg.connect(database_url) as other:
        other.execute("lock table headshotpro.alerts in access exclusive mode")

        def look() -> None:
            visitor = browser.application.test_client()
            log_in(visitor)
            pages.append(visitor.get("/console/alerts").status_code)

        threads = [threading.Thread(target=look) for _ in range(12)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            assert post(browser, event_body(new_id())).status_code == 202
        # None of the pages has its lock yet, so the deliveries did not wait for one.
        assert 200 not in pages
        for thread in threads:
            thread.join()
    # Each ended by itself: the statement's time was over, or there was no slot.
    assert pages == [503] * 12
    assert browser.get("/console/alerts").status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_no_page_can_be_written_to(folder: Path, database_url: str, redis_url: str, method: str) -> None:
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    for path in ("/console/", "/console/alerts", "/console/settings"):
        assert getattr(browser, method)(path).status_code == 405


def test_slow_download_leaves_its_slot_to_pages(folder: Path, database_url: str, redis_url: str) -> None:
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    # The client reads nothing, so the generator of each file pauses.
    held = [browser.get("/console/models.csv", buffered=False) for _ in range(8)]
    assert {download.status_code for download in held} == {200}
    assert browser.get("/console/alerts").status_code == 200
    for download in held:
        assert download.text.startswith("id,")

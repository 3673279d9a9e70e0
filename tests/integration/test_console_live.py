"""Open pages of the console in a browser: a webhook's change appears by itself, or is counted for a reader."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.local.servers import Valkey
from tests.support.browser import CHROMIUM, OPERATOR_IN_LIGHT, Visitor, chromium, serving
from tests.support.console import OPERATOR
from tests.support.console_streams import COUNT_MESSAGES, add_change, app_with_changes, wait_for_mode
from tests.support.processes import eventually
from tests.support.servers import temporary_folder
from tests.support.system import System, new_id
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from playwright.sync_api import Browser, Page

    from tests.support.sandboxes import StartSandbox

# One browser for all of them.
pytestmark = [CHROMIUM, pytest.mark.xdist_group("a browser of live pages")]

LIVE_SECONDS = 2.0
STATUSES = ("waiting", "pending", "generatingHeadshots")
EVENT = "insert into headshotpro.webhook_events (id, event, status, received_at, processed_at) \
    values (%s, 'ping', 'ignored', now() - make_interval(secs => %s), now())"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def app(database: str, valkey: Any, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    return app_with_changes(tmp_path_factory.mktemp("web"), database, valkey.url)


@pytest.fixture(scope="module")
def visitor(app: Flask, browser: Browser) -> Iterator[Visitor]:
    with serving(app) as url:
        found = Visitor(browser, url, OPERATOR_IN_LIGHT)
        yield found
        found.context.close()


def test_change_at_the_vendor_appears_within_two_seconds(
    browser: Browser, database_url: str, sandbox: StartSandbox
) -> None:
    running = sandbox(models=1, quiet=True, rate=0)
    vendor = SandboxClient(running)
    with (
        temporary_folder() as folder,
        Valkey.start(folder / "valkey", sync="no") as valkey,
        System(
            folder, DATABASE_URL=database_url, REDIS_URL=valkey.url, HEADSHOTPRO_API_URL=running.url,
            HEADSHOTPRO_API_KEY=running.api_key, HEADSHOTPRO_WEBHOOK_SECRET=running.webhook_secret,
            CONSOLE_PASSWORD=OPERATOR, WEB_CONCURRENCY="2",
        ) as system,
    ):  # fmt: skip
        system.start("worker")
        system.start("web")
        system.wait_for_web()
        vendor.control("POST", "/webhook", {"url": f"{system.url}/webhooks/headshotpro"})
        visitor = Visitor(browser, system.url, OPERATOR_IN_LIGHT)
        model = vendor.control("POST", "/models", {"id": new_id(), "status": "onboarding", "events": True})[0]["id"]
        # Asked without a page, because a browser would show each refusal.
        path = f"/console/models/{model}"
        assert eventually(lambda: visitor.context.request.get(path).status == 200), system.logs()
        visitor.open(path)
        pages = {"timeline": visitor.page, "changes": visitor.context.new_page(), "events": visitor.context.new_page()}
        pages["changes"].goto("/console/changes")
        pages["events"].goto("/console/events")
        for page in pages.values():
            wait_for_mode(page, "Live")
            page.evaluate("window.isOld = true")
        # A machine that does other work may be late, but not each time.
        took = (_seconds_to_appear(vendor, model, status, list(pages.values())) for status in 2 * STATUSES)
        assert any(one < LIVE_SECONDS for one in took), system.logs()
        assert [page.evaluate("window.isOld") for page in pages.values()] == [True] * 3
        visitor.context.close()


def _seconds_to_appear(vendor: SandboxClient, model: str, status: str, pages: list[Page]) -> float:
    """Change the status of a model at the vendor: how long it takes until all pages have another row."""
    rows = [page.locator("tr[data-key]").count() for page in pages]
    began = time.monotonic()
    vendor.control("PATCH", f"/models/{model}", {"status": status, "events": True})
    for page, before in zip(pages, rows, strict=True):
        page.locator("tr[data-key]").nth(before).wait_for()
    return time.monotonic() - began


def test_page_shows_rows_every_second_while_they_go_on_coming(app: Flask, browser: Browser, database: str) -> None:
    with serving(app) as url:
        # A clock is that of all pages of a visitor.
        own = Visitor(browser, url, OPERATOR_IN_LIGHT)
        own.page.add_init_script(COUNT_MESSAGES)
        own.page.clock.install()
        page = own.open("/console/changes")
        wait_for_mode(page, "Live")
        # What comes before the stream is ready is in the page, and no message.
        assert eventually(lambda: page.evaluate("heard") == 1)
        page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
        for number in range(7):
            heard = page.evaluate("heard")
            newest = add_change(database, f"flow-{number}")
            assert eventually(lambda heard=heard: page.evaluate("heard") > heard)
            # A script that asks less and less often, at last every five seconds, shows the fourth one too late.
            page.clock.run_for(1100)
            page.get_by_text(newest, exact=True).wait_for()
        own.context.close()


def test_event_that_is_committed_after_a_newer_one_appears(visitor: Visitor, database: str) -> None:
    page = visitor.open("/console/events")
    wait_for_mode(page, "Live")
    with psycopg.connect(database, autocommit=True) as connection:
        for event_id, age in (("evt_newer", 0), ("evt_received_before", 5)):
            connection.execute(EVENT, [event_id, age])
            # Before it asks by its clock.
            page.get_by_text(event_id).wait_for()


def test_paused_page_counts_new_rows_and_shows_them_when_asked(visitor: Visitor, database: str) -> None:
    page = visitor.open("/console/changes")
    wait_for_mode(page, "Live")
    page.get_by_role("button", name="Pause updates").click()
    wait_for_mode(page, "Paused")
    first = add_change(database, "paused-1")
    bar = page.get_by_role("status").get_by_role("button")
    bar.get_by_text("↑ 1 new: show").wait_for()
    assert page.get_by_text(first).count() == 0
    bar.click()
    page.get_by_text(first).wait_for()
    bar.wait_for(state="detached")
    # It is paused still.
    second = add_change(database, "paused-2")
    bar.get_by_text("↑ 1 new: show").wait_for()
    page.get_by_role("button", name="Pause updates").click()
    page.get_by_text(second).wait_for()
    bar.wait_for(state="detached")
    assert visitor.complaints == []


def test_reader_further_down_keeps_the_place(visitor: Visitor, database: str) -> None:
    page = visitor.open("/console/changes")
    wait_for_mode(page, "Live")
    page.mouse.wheel(0, 900)
    assert eventually(lambda: page.evaluate("scrollY") > 500)
    place = page.evaluate("scrollY")
    new = add_change(database, "further-up")
    bar = page.get_by_role("status").get_by_role("button")
    bar.wait_for()
    assert page.get_by_text(new).count() == 0
    assert page.evaluate("scrollY") == place
    page.keyboard.press("Tab")
    bar.focus()
    page.keyboard.press("Enter")
    page.get_by_text(new).wait_for()
    assert page.evaluate("[scrollY, document.activeElement.id]") == [0, "main"]


def test_page_that_waits_for_its_reader_says_so(visitor: Visitor) -> None:
    page = visitor.context.new_page()
    page.clock.install()
    page.goto("/console/")
    wait_for_mode(page, "Every 5 s")
    page.get_by_role("button", name="Pause updates").focus()
    page.clock.run_for(6000)
    wait_for_mode(page, "Waits while you read")
    page.evaluate("document.activeElement.blur()")
    page.clock.run_for(6000)
    wait_for_mode(page, "Every 5 s")
    page.close()

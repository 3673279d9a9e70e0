"""Open pages of the console in a browser: a webhook's change appears by itself, or is counted for a reader."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.config import load
from service.local.servers import Valkey
from service.web import create_app
from tests.support.browser import CHROMIUM, OPERATOR_IN_LIGHT, Visitor, chromium, serving
from tests.support.console import OPERATOR, VIEWER
from tests.support.console_streams import COUNT_MESSAGES
from tests.support.processes import eventually
from tests.support.servers import temporary_folder
from tests.support.system import System, new_id
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from playwright.sync_api import Browser, Page, Route

    from service.web.console.streams import Streams
    from tests.support.sandboxes import StartSandbox

# One browser for all of them.
pytestmark = [CHROMIUM, pytest.mark.xdist_group("a browser of live pages")]

LIVE_SECONDS = 2.0
STATUSES = ("waiting", "pending", "generatingHeadshots")
CHANGE = """
    insert into headshotpro.model_changes (model_id, to_status, changed, source, observed_at, recorded_at)
    values (%s, 'active', '{"photo_count": [1, 2]}', 'pull', now(), now())
"""
MANY = "insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at) \
    select 'old' || n, '{\"photo_count\": [1, 2]}', 'pull', now(), now() from generate_series(1, 60) as n"
EVENT = "insert into headshotpro.webhook_events (id, event, status, received_at, processed_at) \
    values (%s, 'ping', 'ignored', now() - make_interval(secs => %s), now())"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def app(database: str, valkey: Any, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    settings = {
        "DATABASE_URL": database, "REDIS_URL": valkey.url,
        "CONSOLE_PASSWORD": OPERATOR, "CONSOLE_VIEWER_PASSWORD": VIEWER,
    }  # fmt: skip
    made = create_app(load(environ=settings, dotenv=tmp_path_factory.mktemp("none") / ".env"))
    made.extensions["console_streams"].poll_seconds = 0.1
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(MANY.encode())
    return made


@pytest.fixture(scope="module")
def visitor(app: Flask, browser: Browser) -> Iterator[Visitor]:
    with serving(app) as url:
        found = Visitor(browser, url, OPERATOR_IN_LIGHT)
        yield found
        found.context.close()


@pytest.fixture
def streams(app: Flask) -> Streams:
    found: Streams = app.extensions["console_streams"]
    return found


def change(database: str, model: str) -> str:
    """Write a change of a model: its id."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CHANGE, [model])
    return model


def mode(page: Page, expected: str) -> None:
    """Wait until the heading says so."""
    page.locator("[data-mode]").get_by_text(expected, exact=True).wait_for()


@contextmanager
def changed(streams: Streams, **limits: Any) -> Iterator[None]:
    before = {name: getattr(streams, name) for name in limits}
    for name, value in limits.items():
        setattr(streams, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(streams, name, value)


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
            mode(page, "Live")
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
        mode(page, "Live")
        # What comes before the stream is ready is in the page, and no message.
        assert eventually(lambda: page.evaluate("heard") == 1)
        page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
        for number in range(7):
            heard = page.evaluate("heard")
            newest = change(database, f"flow-{number}")
            assert eventually(lambda heard=heard: page.evaluate("heard") > heard)
            # A script that asks less and less often, at last every five seconds, shows the fourth one too late.
            page.clock.run_for(1100)
            page.get_by_text(newest, exact=True).wait_for()
        own.context.close()


def test_event_that_is_committed_after_a_newer_one_appears(visitor: Visitor, database: str) -> None:
    page = visitor.open("/console/events")
    mode(page, "Live")
    with psycopg.connect(database, autocommit=True) as connection:
        for event_id, age in (("evt_newer", 0), ("evt_received_before", 5)):
            connection.execute(EVENT, [event_id, age])
            # Before it asks by its clock.
            page.get_by_text(event_id).wait_for()


def test_paused_page_counts_new_rows_and_shows_them_when_asked(visitor: Visitor, database: str) -> None:
    page = visitor.open("/console/changes")
    mode(page, "Live")
    page.get_by_role("button", name="Pause updates").click()
    mode(page, "Paused")
    first = change(database, "paused-1")
    bar = page.get_by_role("status").get_by_role("button")
    bar.get_by_text("↑ 1 new: show").wait_for()
    assert page.get_by_text(first).count() == 0
    bar.click()
    page.get_by_text(first).wait_for()
    bar.wait_for(state="detached")
    # It is paused still.
    second = change(database, "paused-2")
    bar.get_by_text("↑ 1 new: show").wait_for()
    page.get_by_role("button", name="Pause updates").click()
    page.get_by_text(second).wait_for()
    bar.wait_for(state="detached")
    assert visitor.complaints == []


def test_reader_further_down_keeps_the_place(visitor: Visitor, database: str) -> None:
    page = visitor.open("/console/changes")
    mode(page, "Live")
    page.mouse.wheel(0, 900)
    assert eventually(lambda: page.evaluate("scrollY") > 500)
    place = page.evaluate("scrollY")
    new = change(database, "further-up")
    bar = page.get_by_role("status").get_by_role("button")
    bar.wait_for()
    assert page.get_by_text(new).count() == 0
    assert page.evaluate("scrollY") == place
    page.keyboard.press("Tab")
    bar.focus()
    page.keyboard.press("Enter")
    page.get_by_text(new).wait_for()
    assert page.evaluate("[scrollY, document.activeElement.id]") == [0, "main"]


def test_page_beyond_the_limit_polls(visitor: Visitor, database: str, streams: Streams) -> None:
    with changed(streams, most=0):
        page = visitor.context.new_page()
        page.clock.install()
        page.goto("/console/changes")
        mode(page, "Every 5 s")
        new = change(database, "polled")
        page.clock.run_for(6000)
        page.get_by_text(new).wait_for()
    # Half a minute later there is room.
    page.clock.run_for(31_000)
    mode(page, "Live")
    page.close()


def test_page_whose_stream_ends_comes_back_and_misses_nothing(
    visitor: Visitor, database: str, streams: Streams
) -> None:
    with changed(streams, stream_seconds=0.3):
        page = visitor.open("/console/changes")
        page.get_by_role("button", name="Pause updates").click()
        bar = page.get_by_role("status").get_by_role("button")
        for number in range(3):
            # Until the stream was opened anew, something came meanwhile.
            with page.expect_request("**/console/stream*", timeout=10_000):
                change(database, f"again-{number}")
        change(database, "again-3")
        bar.get_by_text("↑ 4 new: show").wait_for()
        bar.click()
        page.get_by_text("again-3").wait_for()
        assert [page.get_by_text(f"again-{number}").count() for number in range(4)] == [1] * 4


def test_page_asks_for_itself_when_its_stream_begins_anew(app: Flask, browser: Browser, streams: Streams) -> None:
    with serving(app) as url, changed(streams, stream_seconds=0.3):
        visitor = Visitor(browser, url, OPERATOR_IN_LIGHT)
        # Without a clock by which it asks, too.
        visitor.context.add_init_script("window.setInterval = () => 0;")
        page = visitor.open("/console/changes")
        for _ in range(2):
            with page.expect_request("**/console/stream*", timeout=10_000):
                pass
        with page.expect_request(lambda request: "console-part" in request.headers, timeout=10_000):
            pass
        visitor.context.close()


@pytest.mark.parametrize(
    "is_cut", [True, pytest.param(False, marks=pytest.mark.long)], ids=["its stream began anew", "a row is new"]
)
def test_page_that_got_no_part_asks_again(
    app: Flask, browser: Browser, database: str, streams: Streams, *, is_cut: bool
) -> None:
    asked: list[Route] = []

    def fail_the_second(route: Route) -> None:
        asked.extend([route] if "console-part" in route.request.headers else [])
        if len(asked) < 2:
            route.continue_()
        elif len(asked) == 2:
            route.fulfill(status=503)

    with serving(app) as url:
        visitor = Visitor(browser, url, OPERATOR_IN_LIGHT)
        # Without the clock by which a page without a stream asks.
        visitor.context.add_init_script("window.setInterval = () => 0;")
        visitor.context.route("**/console/changes", fail_the_second)
        with changed(streams, stream_seconds=0.5 if is_cut else 300):
            page = visitor.open("/console/changes")
            assert eventually(lambda: page.evaluate("1") and asked)
        new = "" if is_cut else change(database, "after-a-failure")
        assert eventually(lambda: page.evaluate("1") and len(asked) == 3)
        page.locator("[data-mode]").get_by_text(re.compile(r"^Not updated since \d+:\d\d:\d\d")).wait_for()
        asked[2].continue_()
        mode(page, "Live")
        page.get_by_text(new).first.wait_for()
        visitor.context.close()


def test_page_that_waits_for_its_reader_says_so(visitor: Visitor) -> None:
    page = visitor.context.new_page()
    page.clock.install()
    page.goto("/console/")
    mode(page, "Every 5 s")
    page.get_by_role("button", name="Pause updates").focus()
    page.clock.run_for(6000)
    mode(page, "Waits while you read")
    page.evaluate("document.activeElement.blur()")
    page.clock.run_for(6000)
    mode(page, "Every 5 s")
    page.close()


def test_hidden_page_has_no_stream(visitor: Visitor, streams: Streams) -> None:
    page = visitor.open("/console/changes")
    mode(page, "Live")
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    assert eventually(lambda: streams.number == 0)
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: false });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    mode(page, "Live")


def test_page_whose_session_is_over_leads_to_the_login(visitor: Visitor) -> None:
    context = visitor.context
    page = context.new_page()
    page.clock.install()
    page.goto("/console/changes")
    mode(page, "Live")
    cookies = context.cookies()
    context.clear_cookies()
    try:
        page.clock.run_for(35_000)
        page.wait_for_url("**/console/login?next=/console/changes")
    finally:
        context.add_cookies([{**one} for one in cookies])  # type: ignore[typeddict-item]
    page.close()


@pytest.mark.parametrize(
    "row_comes", [True, pytest.param(False, marks=pytest.mark.long)], ids=["next row", "half a minute"]
)
def test_logout_leads_other_pages_to_the_login(app: Flask, browser: Browser, database: str, *, row_comes: bool) -> None:
    with serving(app) as url:
        visitor = Visitor(browser, url, OPERATOR_IN_LIGHT)
        other = visitor.context.new_page()
        other.clock.install()
        other.goto("/console/changes")
        mode(other, "Live")
        visitor.open("/console/alerts").get_by_role("button", name="Log out").click()
        visitor.page.wait_for_url("**/console/login")
        if row_comes:
            change(database, "after-logout")
        else:
            other.clock.run_for(30_000)
        other.wait_for_url("**/console/login?next=/console/changes")
        visitor.context.close()

"""Open pages of the console whose stream ends or is refused, or whose session is over."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import CHROMIUM, OPERATOR_IN_LIGHT, Visitor, chromium, serving
from tests.support.console_streams import add_change, app_with_changes, streams_of, wait_for_mode
from tests.support.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from playwright.sync_api import Browser, Route

    from service.web.console.streams import Streams

# One browser for all of them.
pytestmark = [CHROMIUM, pytest.mark.xdist_group("a browser of interrupted pages")]


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


@pytest.fixture
def streams(app: Flask) -> Streams:
    return streams_of(app)


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


def test_page_beyond_the_limit_polls(visitor: Visitor, database: str, streams: Streams) -> None:
    with changed(streams, most=0):
        page = visitor.context.new_page()
        page.clock.install()
        page.goto("/console/changes")
        wait_for_mode(page, "Every 5 s")
        new = add_change(database, "polled")
        page.clock.run_for(6000)
        page.get_by_text(new).wait_for()
    # Half a minute later there is room.
    page.clock.run_for(31_000)
    wait_for_mode(page, "Live")
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
                add_change(database, f"again-{number}")
        add_change(database, "again-3")
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
        new = "" if is_cut else add_change(database, "after-a-failure")
        assert eventually(lambda: page.evaluate("1") and len(asked) == 3)
        page.locator("[data-mode]").get_by_text(re.compile(r"^Not updated since \d\d:\d\d:\d\d$")).wait_for()
        asked[2].continue_()
        wait_for_mode(page, "Live")
        page.get_by_text(new).first.wait_for()
        visitor.context.close()


def test_hidden_page_has_no_stream(visitor: Visitor, streams: Streams) -> None:
    page = visitor.open("/console/changes")
    wait_for_mode(page, "Live")
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    assert eventually(lambda: streams.number == 0)
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: false });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    wait_for_mode(page, "Live")


def test_page_whose_session_is_over_leads_to_the_login(visitor: Visitor) -> None:
    context = visitor.context
    page = context.new_page()
    page.clock.install()
    page.goto("/console/changes")
    wait_for_mode(page, "Live")
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
        wait_for_mode(other, "Live")
        visitor.open("/console/alerts").get_by_role("button", name="Log out").click()
        visitor.page.wait_for_url("**/console/login")
        if row_comes:
            add_change(database, "after-logout")
        else:
            other.clock.run_for(30_000)
        other.wait_for_url("**/console/login?next=/console/changes")
        visitor.context.close()

"""The console's pages in a browser: every page, in both themes, for each role, on a phone, without JavaScript."""

from __future__ import annotations

import re
import struct
import zlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import psycopg
import pytest

from service.config import load
from service.web import create_app
from tests.support.browser import (
    CHROMIUM,
    OPERATOR_IN_LIGHT,
    OPERATOR_ON_A_PHONE,
    VIEWER_WITHOUT_JAVASCRIPT,
    VIEWINGS,
    Viewing,
    Visitor,
    chromium,
    serving,
)  # fmt: skip
from tests.support.console import OPERATOR, VIEWER
from tests.support.console_pages import PAGES
from tests.support.console_world import ATTACKS, fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from playwright.sync_api import Page


# One browser, one web process and one database for all of them.
pytestmark = [CHROMIUM, pytest.mark.xdist_group("a browser")]

# Elements that no page has, so they came out of a text.
FOREIGN = "main script, main style, main img, main [onerror], main [onload], main a[href^='javascript:']"
# It takes as long as all else: each theme and each width once.
LOOKED_AT_BY_AXE = (OPERATOR_IN_LIGHT, OPERATOR_ON_A_PHONE)
# axe sends all that it looked at, which is a hundred times as much, unless the page itself picks the faults.
# It judges no text above a gradient: shadows of tables are taken away.
RUN_AXE = """options => {
    for (const one of document.querySelectorAll(".scroll, pre")) one.style.backgroundImage = "none";
    return axe.run(document, options).then(found => found.violations.map(one =>
        [one.id, one.help, one.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]));
}"""
AXE_OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    # For other elements it need not find out how to name them.
    "resultTypes": ["violations"],
}
# What a chart shows is in no element.
KEEP_TEXTS_OF_CANVASES = """
    window.drawnTexts = [];
    const { fillText } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
        drawnTexts.push(String(text));
        return fillText.call(this, text, ...place);
    };
"""
OPEN_AN_ALERT = "insert into headshotpro.alerts (kind, opened_at) values ('inbox_stalled', now())"
DELETE_THE_ALERT = "delete from headshotpro.alerts where kind = 'inbox_stalled'"


@pytest.fixture(scope="module")
def database(database: str) -> str:
    fill(database)
    return database


@pytest.fixture(scope="module")
def app(database: str, valkey: Any, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    settings = {
        "DATABASE_URL": database, "REDIS_URL": valkey.url,
        "CONSOLE_PASSWORD": OPERATOR, "CONSOLE_VIEWER_PASSWORD": VIEWER,
        "ALERT_URLS": "json://192.0.2.1", "HEADSHOTPRO_WEBHOOK_SECRET": "5e" * 32,
    }  # fmt: skip
    return create_app(load(environ=settings, dotenv=tmp_path_factory.mktemp("none") / ".env"))


@pytest.fixture(scope="module")
def visit(app: Flask) -> Iterator[Callable[[Viewing], Visitor]]:
    """A person who looks so; each logs in once."""
    visitors: dict[Viewing, Visitor] = {}
    with serving(app) as url, chromium() as browser:

        def visitor(viewing: Viewing) -> Visitor:
            if viewing not in visitors:
                visitors[viewing] = Visitor(browser, url, viewing)
            return visitors[viewing]

        yield visitor


def test_every_page_is_in_the_list(app: Flask) -> None:
    """Without a line in the list a page would not be opened by these tests."""
    adapter = app.url_map.bind("localhost")
    listed = {adapter.match(unquote(path.partition("?")[0]))[0] for path in PAGES.values()}
    endpoints = {
        rule.endpoint for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("console.") and "GET" in (rule.methods or ())
    }  # fmt: skip
    no_pages = {
        "console.show_login", "console.static_file", "console.without_slash", "console.nowhere", "console.models_csv",
        "console.stream",
        # Viewers may not open it: `test_console_acts.py` does.
        "console.confirm_act",
    }  # fmt: skip
    assert endpoints - no_pages == listed


def openings() -> list[Any]:
    """Every page in every viewing: CI opens all; `make test` one of each kind once, as the operator, with axe."""
    found, kinds = [], set()
    for name, path in PAGES.items():
        # What comes behind it says what such a page shows.
        kind = name.partition("-")[0]
        first = None if kind in kinds else LOOKED_AT_BY_AXE[len(kinds) % len(LOOKED_AT_BY_AXE)]
        kinds.add(kind)
        for viewing in VIEWINGS:
            marks = [] if viewing == first else [pytest.mark.long]
            found.append(pytest.param(path, viewing, id=f"{name}-{viewing.label}", marks=marks))
    return found


@pytest.mark.parametrize(("path", "viewing"), openings())
def test_page_can_be_read_and_runs_nothing_foreign(
    visit: Callable[[Viewing], Visitor], axe: str, path: str, viewing: Viewing
) -> None:
    visitor = visit(viewing)
    page = visitor.open(path)
    assert page.locator("h1").inner_text()
    # Content from outside is text: no element of it is part of the page.
    assert page.locator(FOREIGN).count() == 0
    if viewing.javascript:
        scrolled, width = page.locator("html").evaluate("html => [html.scrollWidth, html.clientWidth]")
        assert scrolled <= width, "the page is wider than the window"
    if viewing in LOOKED_AT_BY_AXE:
        assert violations(page, axe) == []
    assert visitor.complaints == []


def violations(page: Page, axe: str) -> list[tuple[str, str, list[str]]]:
    """The accessibility faults of a page: the rule, its meaning, the first elements."""
    page.evaluate(axe)
    return [tuple(one) for one in page.evaluate(RUN_AXE, AXE_OPTIONS)]


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core, to be injected: the page's policy would not let it load the file."""
    return (files("axe_playwright_python") / "axe.min.js").read_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_runbook_can_be_read_on_a_phone(
    visit: Callable[[Viewing], Visitor], axe: str, theme: Literal["light", "dark"]
) -> None:
    visitor = visit(Viewing(theme, OPERATOR, width=375))
    page = visitor.open("/runbook")
    assert page.locator("html").evaluate("html => html.scrollWidth <= html.clientWidth")
    assert page.locator("pre").count() > 5
    assert page.locator("body").evaluate("body => getComputedStyle(body).fontFamily") == "system-ui, sans-serif"
    assert violations(page, axe) == []
    assert visitor.complaints == []


def test_login_has_no_violation_and_keeps_its_target(visit: Callable[[Viewing], Visitor], axe: str) -> None:
    visitor = visit(OPERATOR_ON_A_PHONE)
    page = visitor.context.new_page()
    visitor.context.clear_cookies()
    page.goto("/console/alerts?kind=pull_stale")
    assert violations(page, axe) == []
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    assert page.get_by_role("alert").inner_text() == "That password is wrong."
    # The others use this visitor, too.
    page.get_by_label("Password").fill(OPERATOR)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/alerts?kind=pull_stale")
    page.close()


def test_times_are_relative_and_exact_on_hover(visit: Callable[[Viewing], Visitor]) -> None:
    page = visit(OPERATOR_IN_LIGHT).open("/console/alerts")
    first = page.locator("time").first
    assert re.search(r"(now|ago)$", first.inner_text())
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", str(first.get_attribute("title")))
    plain = visit(VIEWER_WITHOUT_JAVASCRIPT).open("/console/alerts").locator("time").first
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", plain.inner_text())


def test_slash_focuses_the_first_filter(visit: Callable[[Viewing], Visitor]) -> None:
    page = visit(OPERATOR_IN_LIGHT).open("/console/alerts")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "kind"


def test_charts_are_drawn_and_can_be_read_as_tables(visit: Callable[[Viewing], Visitor]) -> None:
    page = visit(OPERATOR_IN_LIGHT).open("/console/")
    assert page.locator(".uplot canvas").count() == 3
    without = visit(VIEWER_WITHOUT_JAVASCRIPT).open("/console/")
    without.get_by_text("As a table").first.click()
    assert without.locator("details table tbody tr").first.is_visible()


def test_charts_and_times_have_24_hours_in_american_english(visit: Callable[[Viewing], Visitor]) -> None:
    page = visit(OPERATOR_IN_LIGHT).context.new_page()
    page.add_init_script(KEEP_TEXTS_OF_CANVASES)
    page.goto("/console/", wait_until="load")
    assert page.evaluate("navigator.language") == "en-US"
    page.locator(".u-over").first.hover()
    page.locator(".u-legend").first.get_by_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d$")).wait_for()
    page.get_by_text("As a table").first.click()
    axes = page.evaluate("window.drawnTexts")
    assert any(re.fullmatch(r"\d\d:\d\d", text) for text in axes)
    shown = [one.inner_text() for one in page.locator("details[open] time").all()]
    on_hover = page.evaluate("[...document.querySelectorAll('time')].map(one => one.title)")
    assert all(re.search(r"\d\d:\d\d", text) for text in (*shown, *on_hover))
    assert [text for text in (*axes, *shown, *on_hover) if re.search(r"\d\W?[ap]m\b", text, re.IGNORECASE)] == []
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_wide_table_has_a_shadow_where_columns_are_out_of_sight(
    visit: Callable[[Viewing], Visitor], theme: Literal["light", "dark"]
) -> None:
    page = visit(Viewing(theme, OPERATOR, width=375)).open("/console/set-aside")
    table = page.locator(".scroll")
    paper = tuple(map(int, re.findall(r"\d+", table.evaluate("one => getComputedStyle(one).backgroundColor"))))

    def shadows(scrolled: float) -> tuple[bool, bool]:
        table.evaluate("(one, share) => { one.scrollLeft = share * (one.scrollWidth - one.clientWidth); }", scrolled)
        box = table.bounding_box()
        assert box
        # Within its border, and above the words of the first row.
        left, right = (pixel(page, x, box["y"] + 6) for x in (box["x"] + 2, box["x"] + box["width"] - 3))
        return left != paper, right != paper

    assert [shadows(0), shadows(0.5), shadows(1)] == [(False, True), (True, True), (True, False)]
    page.set_viewport_size({"width": 1280, "height": 900})
    assert shadows(0) == (False, False)
    page.set_viewport_size({"width": 375, "height": 900})


def pixel(page: Page, x: float, y: float) -> tuple[int, ...]:
    """The colour of one pixel of the window. A PNG of one pixel needs no filter: behind its byte come the colours."""
    png = page.screenshot(clip={"x": x, "y": y, "width": 1, "height": 1})
    data, place = b"", len(b"\x89PNG\r\n\x1a\n")
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        data += png[place + 8 : place + 8 + length] if png[place + 4 : place + 8] == b"IDAT" else b""
        place += 12 + length
    return tuple(zlib.decompress(data)[1:4])


def test_page_of_an_act_names_its_effect_and_has_no_violation(visit: Callable[[Viewing], Visitor], axe: str) -> None:
    visitor = visit(OPERATOR_ON_A_PHONE)
    page = visitor.open("/console/set-aside")
    page.get_by_role("link", name="Resolve").first.click()
    page.wait_for_url("**/console/acts/resolve/*")
    assert "It opens again" in page.locator("main").inner_text()
    assert violations(page, axe) == []
    assert visitor.complaints == []


def test_acts_on_subscriptions_have_no_violation(visit: Callable[[Viewing], Visitor], axe: str) -> None:
    visitor = visit(OPERATOR_ON_A_PHONE)
    page = visitor.open("/console/subscriptions")
    page.get_by_role("link", name="Add a subscription").click()
    page.wait_for_url("**/console/acts/add-subscription/new")
    assert violations(page, axe) == []
    # A page whose URL is refused keeps the form, and changes nothing.
    page.get_by_label("Name", exact=True).fill("metadata")
    page.get_by_label("URL").fill("http://169.254.169.254/")
    page.get_by_role("button", name="Add the subscription").click()
    assert "link-local" in page.get_by_role("alert").inner_text()
    assert violations(page, axe) == []
    page = visitor.open("/console/subscriptions/orders")
    page.get_by_role("link", name="Replay").click()
    page.wait_for_url("**/console/acts/replay-subscription/orders")
    assert "processes them a second time" in page.locator("main").inner_text()
    assert violations(page, axe) == []


def test_attacks_are_shown_as_they_are(visit: Callable[[Viewing], Visitor]) -> None:
    page = visit(OPERATOR_IN_LIGHT).open("/console/alerts")
    assert ATTACKS[0] in page.locator("main").inner_text()


def test_open_page_follows_the_mirror_until_it_is_paused(visit: Callable[[Viewing], Visitor], database: str) -> None:
    visitor = visit(OPERATOR_IN_LIGHT)
    page = visitor.context.new_page()
    page.clock.install()
    page.goto("/console/alerts")
    shown = page.get_by_role("region", name="Open alerts").get_by_text("inbox_stalled")
    write(database, OPEN_AN_ALERT)
    page.clock.run_for(5000)
    shown.wait_for()
    page.get_by_role("button", name="Pause updates").click()
    write(database, DELETE_THE_ALERT)
    page.clock.run_for(20_000)
    assert shown.count() == 1
    page.get_by_role("button", name="Pause updates").click()
    page.clock.run_for(5000)
    shown.wait_for(state="detached")
    page.close()


def test_open_page_leaves_its_tables_where_they_are_scrolled(
    visit: Callable[[Viewing], Visitor], database: str
) -> None:
    page = visit(OPERATOR_ON_A_PHONE).context.new_page()
    page.clock.install()
    page.goto("/console/alerts")
    table = page.get_by_role("region", name="Open alerts")
    table.evaluate("one => { one.scrollLeft = 50; }")
    write(database, OPEN_AN_ALERT)
    page.clock.run_for(5000)
    table.get_by_text("inbox_stalled").wait_for()
    write(database, DELETE_THE_ALERT)
    assert table.evaluate("one => one.scrollLeft") == 50
    page.close()


def write(database: str, statement: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(statement.encode())

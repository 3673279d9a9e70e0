"""Acts of the console in a browser: an operator does each of them, and a viewer finds none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import pytest

from service.storage.database import transaction
from service.storage.merged import MergedRows, write
from service.web import create_app
from tests.support.browser import (
    CHROMIUM,
    OPERATOR_ON_A_PHONE,
    VIEWER_WITHOUT_JAVASCRIPT,
    Viewing,
    Visitor,
    chromium,
    serving,
)  # fmt: skip
from tests.support.console import OPERATOR, VIEWER
from tests.support.drainer import T0
from tests.support.processes import eventually
from tests.support.system import event_document
from workers import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.support.mirror import Mirror, StartMirror

pytestmark = [CHROMIUM, pytest.mark.xdist_group("a browser")]

WITHOUT_JAVASCRIPT = Viewing("light", OPERATOR, javascript=False)
AUDIT = "select action, target, outcome from headshotpro.audit_log order by id"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def here(mirror: StartMirror) -> Mirror:
    """A mirror with a pull that is held for thirty models, an alert, and something that was set aside."""
    started = mirror(models=60)
    started.pull()
    started.vanish(*sorted(started.live_ids())[:30])
    started.advance_vendor_clock()
    assert started.pull()["status"] == "held"
    started.sql("insert into headshotpro.alerts (kind, opened_at, detail) values ('pull_stale', now(), '{}')")
    started.sql(
        "insert into headshotpro.set_aside (found_at, model_id, fields, reason) "
        "values (now(), 'm', '{title}', 'was a number')"
    )
    return started


@pytest.fixture
def web(here: Mirror) -> Iterator[str]:
    settings = msgspec.structs.replace(
        here.settings, console_password=OPERATOR, console_viewer_password=VIEWER, alert_urls="json://127.0.0.1:9/?cto=1"
    )
    with serving(create_app(settings)) as url:
        yield url


def keep_dead(here: Mirror, model: str, event_id: str, **fields: Any) -> str:
    """An event that died though it can be applied, about a model: its id."""
    # Later than what the vendor's clock, which was moved ahead, has shown.
    at = datetime.now(UTC) + timedelta(minutes=1)
    document = event_document(model, event_id=event_id, at=at, **fields)
    row = {
        "id": event_id, "event": document["event"], "model_id": model, "status": "dead", "error": "a fault",
        "payload": document, "created_at": at, "received_at": T0, "signed_at": at, "delivery_ids": ["d"],
    }  # fmt: skip
    with transaction(here.runtime.engine) as connection:
        write(connection, MergedRows(events=[row]), T0)
    return event_id


def act(visitor: Visitor, path: str, button: str) -> Page:
    """Go to a page, choose its act, read what will happen, and confirm it."""
    page = visitor.open(path)
    page.locator("main").get_by_role("link", name=button).first.click()
    assert page.locator("main .note").first.inner_text()
    page.locator("main form.confirm button").click()
    page.wait_for_url(lambda url: "/console/acts/" not in url)
    assert visitor.complaints == []
    return page


# Without a browser each act is in `test_console_acts.py`, `test_console_erasure.py`, `test_console_replay.py`,
# `test_console_tasks.py` or `test_console_releases.py`; in one, `make test` does one act to its end, in the next test.
@pytest.mark.long
@pytest.mark.parametrize(
    "viewing",
    [OPERATOR_ON_A_PHONE, WITHOUT_JAVASCRIPT],
    ids=lambda one: one.label,
)
def test_operator_does_every_act(here: Mirror, web: str, browser: Browser, viewing: Viewing) -> None:
    asked, deleted, replayed = sorted(here.live_ids())[:3]
    here.change(asked, title="A new title")
    # `Date` has whole seconds: a GET in the second of the held pull's page may count as older than the page.
    here.advance_vendor_clock()
    event = keep_dead(here, replayed, "evt_1", status="failed", title="From the event")
    jobs.install(here.runtime)
    operator = Visitor(browser, web, viewing)
    page = act(operator, f"/console/models/{asked}", "Ask the vendor now")
    assert "A new title" in page.locator("ins").all_inner_texts()
    act(operator, f"/console/models/{deleted}", "Delete")
    act(operator, f"/console/models/{deleted}", "Erase personal data")
    act(operator, "/console/alerts", "Acknowledge")
    assert "not taken" in act(operator, "/console/alerts", "Send a test notification").locator("main").inner_text()
    act(operator, "/console/set-aside", "Resolve")
    act(operator, "/console/pulls", "Pull all now")

    # What the preview says is what then happens.
    said = operator.open(f"/console/events/{event}").locator("main .note .diff").inner_text()
    done = act(operator, f"/console/events/{event}", "Replay it").locator("main .diff").inner_text()
    assert "From the event" in said
    assert done == said

    keep_dead(here, replayed, "evt_2", status="waiting")
    page = act(operator, "/console/events?status=dead", "Replay all that match")
    assert "0 of 1" in page.locator("main").inner_text()
    page = act(operator, page.url.removeprefix(web), "Cancel it")
    assert "cancelled" in page.locator("main").inner_text()
    act(operator, "/console/pulls/2", "Release it")

    def released() -> list[dict[str, Any]]:
        # A busy machine needs several slices.
        jobs.run_tasks()
        return here.sql("select id from headshotpro.tasks where id = 3 and status = 'done'")

    assert eventually(released)
    page = operator.open("/console/tasks/3")
    assert "30 of 30" in page.locator("main").inner_text()
    assert page.locator("html").evaluate("html => html.scrollWidth <= html.clientWidth")
    written = [(row["action"], row["outcome"]) for row in here.sql(AUDIT)]
    assert written == [
        ("model.refetch", "done"), ("model.delete", "done"), ("model.erase", "done"), ("alerts.acknowledge", "done"),
        ("alerts.test", "failed"), ("set_aside.resolve", "done"), ("pull.start", "done"), ("events.replay", "done"),
        ("events.replay", "done"), ("task.cancel", "done"), ("pull.release", "done"),
    ]  # fmt: skip


def test_open_page_of_a_task_shows_its_end(here: Mirror, web: str, browser: Browser) -> None:
    keep_dead(here, min(here.live_ids()), "evt_1", status="failed")
    jobs.install(here.runtime)
    operator = Visitor(browser, web, OPERATOR_ON_A_PHONE)
    operator.page.clock.install()
    page = act(operator, "/console/events?status=dead", "Replay all that match")
    assert page.get_by_role("link", name="Cancel it").count() == 1
    jobs.run_tasks()
    page.clock.run_for(5000)
    page.get_by_text("It is done.").wait_for()
    assert page.get_by_role("link", name="Cancel it").count() == 0


# Whether the browser would send the form, for each of two clicks.
CLICK_TWICE = """form => {
    const sent = [];
    addEventListener("submit", (event) => { sent.push(!event.defaultPrevented); event.preventDefault(); });
    form.requestSubmit();
    form.requestSubmit();
    return sent;
}"""


def test_double_click_sends_an_act_once(here: Mirror, web: str, browser: Browser) -> None:
    page = Visitor(browser, web, OPERATOR_ON_A_PHONE).open(f"/console/acts/delete/{min(here.live_ids())}")
    assert page.locator("main form.confirm").evaluate(CLICK_TWICE) == [True, False]


def test_viewer_finds_no_act(here: Mirror, web: str, browser: Browser) -> None:
    model = min(here.live_ids())
    keep_dead(here, model, "evt_1")
    pages = (
        f"/console/models/{model}", "/console/alerts", "/console/set-aside", "/console/pulls", "/console/pulls/2",
        "/console/events?status=dead", "/console/events/evt_1",
    )  # fmt: skip
    acts = (
        "refetch",
        "delete",
        "erase",
        "acknowledge",
        "test",
        "resolve",
        "pull",
        "replay",
        "replay-all",
        "release",
        "cancel",
    )
    viewer = Visitor(browser, web, VIEWER_WITHOUT_JAVASCRIPT)
    for path in pages:
        page = viewer.open(path)
        assert page.locator("main a[href*='/acts/'], main form[method=post]").count() == 0
    for name in acts:
        refused = viewer.page.goto(f"/console/acts/{name}/{quote(model)}")
        assert refused is not None
        assert refused.status == 403
    assert here.sql(AUDIT) == []

"""Links of a notification that a real receiver got lead to pages that are there, for a person who logs in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.support.alerting import fail, pulled, settled
from tests.support.console import console, log_in
from tests.support.system import event_body

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.alerting import NotificationReceiver
    from tests.support.drainer import Drainer

WEB = "https://mirror.example.com"


def test_each_link_of_a_notification_leads_to_its_page(
    folder: Path, database_url: str, redis_url: str, hook: NotificationReceiver, drainer: Drainer
) -> None:
    with settled(database_url, alert_urls=hook.url, public_url=WEB, console_password="p") as here:
        (model,) = fail(here, 1)
        # No index takes an id of this length.
        assert drainer.take(event_body("i" * 300, event_id="evt_dead/?")) == {"dead": 1}
        pulled(here, status="held")
        here.sql("update headshotpro.pulls set pages = 3 where status = 'held'")
        pull = here.sql("select max(id) as id from headshotpro.pulls")[0]["id"]
        here.sql(
            "insert into headshotpro.set_aside (found_at, model_id, fields, reason) "
            "values (now(), %s, '{title}', 'was a number')", model,
        )  # fmt: skip
        here.look()
        here.deliver()
        alert = here.sql("select id from headshotpro.alerts where kind = 'records_set_aside'")[0]["id"]
    bodies = "\n".join(message["message"] for message in hook.got)
    paths = set(re.findall(rf"{WEB}(/\S*)", bodies))
    pages = f"models/{model}", f"pulls/{pull}", "events/evt_dead%2F%3F", f"alerts/{alert}", ""
    assert paths >= {f"/console/{page}" for page in pages}, bodies
    browser = console(folder, database_url, redis_url)
    for path in paths:
        if path.startswith("/console/"):
            assert browser.get(path).status_code == 303
    log_in(browser)
    assert {path: browser.get(path).status_code for path in paths} == dict.fromkeys(paths, 200)
    assert model in browser.get(f"/console/models/{model}").text

"""Replay with a preview: the page says what the merge would change, and exactly that happens, or nothing."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from service.errors import MirrorError, PreviewOutdated
from service.mirror.preview import Preview, preview
from service.mirror.replay import replay_as_previewed
from service.storage import events
from service.storage.database import transaction
from tests.support.acting import TESTER
from tests.support.console import console, log_in, token
from tests.support.drainer import T0, TOLERANCE, minutes
from tests.support.system import event_body, event_document, new_id, rows

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from flask.testing import FlaskClient

    from tests.support.drainer import Drainer

KEEP = """
    insert into headshotpro.webhook_events
        (id, event, model_id, status, error, payload, received_at, signed_at, processed_at)
    values (%s, %s, %s, 'dead', 'a fault of an older release', %s, %s, %s, now())
"""


def keep_dead(drainer: Drainer, document: dict[str, Any], signed_at: datetime) -> str:
    """An event that died, though it can be applied now: its id."""
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute(KEEP, [document["id"], document["event"], document["object"]["_id"], json.dumps(document),
                                  signed_at, signed_at])  # fmt: skip
    return str(document["id"])


def foreseen(drainer: Drainer, event_id: str) -> Preview:
    with transaction(drainer.engine) as connection:
        kept = events.one(connection, event_id)
        assert kept is not None
        return preview(connection, kept, TOLERANCE)


def acts(drainer: Drainer) -> list[dict[str, Any]]:
    return rows(drainer.url, "select * from headshotpro.audit_log order by id")


def put_model(drainer: Drainer, model: str, state: str) -> None:
    """Let the mirror know a model in some way before the event."""
    if state == "new":
        return
    drainer.take(event_body(model, at=minutes(5), status="waiting", title="Ann"))
    if state in ("deleted", "erased"):
        drainer.take(event_body(model, "model.deleted", at=minutes(20)))
    if state == "erased":
        with psycopg.connect(drainer.url, autocommit=True) as connection:
            connection.execute("update headshotpro.models set erased_at = now(), title = null where id = %s", [model])


@pytest.mark.parametrize("state", ["new", "known", "deleted", "erased"])
@pytest.mark.parametrize(
    ("name", "at", "fields"),
    [
        ("model.status.updated", 10.0, {"status": "active", "title": "Zoë"}),
        ("model.status.updated", 1.0, {"status": "onboarding"}),
        ("model.status.updated", 5.0, {"status": "waiting", "title": "Ann"}),
        ("model.status.updated", 5.0, {"status": "failed", "title": "Bob"}),
        ("model.photos_ready", 10.0, {"status": "active"}),
        ("model.deleted", 10.0, {"deletedAt": "2026-01-02T03:10:00Z"}),
        ("model.status.updated", 10.0, {"status": 7, "title": "Zoë"}),
        ("model.status.updated", None, {"status": "active"}),
    ],
)
def test_preview_equals_what_the_replay_then_does(
    drainer: Drainer, state: str, name: str, at: float | None, fields: dict[str, Any]
) -> None:
    model = new_id()
    put_model(drainer, model, state)
    document = event_document(model, name, at=minutes(at) if at is not None else None, event_id="evt_kept", **fields)
    if at is None:
        del document["createdAt"]
    keep_dead(drainer, document, minutes(at or 10.0))
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute("delete from headshotpro.refetch_requests")
    before = drainer.changes(model)
    said = foreseen(drainer, "evt_kept")
    assert drainer.changes(model) == before, "a preview writes nothing"

    replay_as_previewed(drainer.engine, "evt_kept", TOLERANCE, said.token, TESTER)

    written = [change["changed"] for change in drainer.changes(model)[len(before) :]]
    assert written == ([said.changed] if said.changed else [])
    assert bool(said.reason) is (written == [])
    assert drainer.event("evt_kept")["status"] == said.after
    requested = rows(drainer.url, "select * from headshotpro.refetch_requests where model_id = %s", model)
    assert len(requested) == sum("A GET of its model" in one for one in said.consequences)
    (act,) = acts(drainer)
    assert (act["action"], act["target"], act["outcome"]) == ("events.replay", "evt_kept", "done")
    assert act["detail"].get("change") == (drainer.changes(model)[-1]["id"] if written else None)


def test_nothing_happens_once_the_row_has_changed(drainer: Drainer) -> None:
    model = new_id()
    put_model(drainer, model, "known")
    keep_dead(drainer, event_document(model, at=minutes(10), status="active", event_id="evt_kept"), minutes(10))
    said = foreseen(drainer, "evt_kept")
    drainer.take(event_body(model, at=minutes(7), status="pending"))
    before = drainer.row(model), drainer.changes(model), drainer.event("evt_kept")
    with pytest.raises(PreviewOutdated):
        replay_as_previewed(drainer.engine, "evt_kept", TOLERANCE, said.token, TESTER)
    assert (drainer.row(model), drainer.changes(model), drainer.event("evt_kept")) == before
    assert acts(drainer) == []


def test_token_of_a_preview_needs_the_secret(drainer: Drainer) -> None:
    keep_dead(drainer, event_document(new_id(), at=T0, event_id="evt_kept"), T0)
    said = foreseen(drainer, "evt_kept")
    assert foreseen(drainer, "evt_kept").token == said.token
    rows(drainer.url, "update headshotpro.console_secret set secret = 'another' returning id")
    assert foreseen(drainer, "evt_kept")._replace(token=said.token) == said
    with pytest.raises(PreviewOutdated):
        replay_as_previewed(drainer.engine, "evt_kept", TOLERANCE, said.token, TESTER)
    assert acts(drainer) == []


def test_event_that_postgres_refuses_again_leaves_nothing_behind(drainer: Drainer) -> None:
    model = new_id()
    keep_dead(drainer, event_document(model, at=T0, title="poison", event_id="evt_kept"), T0)
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute("alter table headshotpro.models add constraint poison check (title <> 'poison')")
    said = foreseen(drainer, "evt_kept")
    with pytest.raises(MirrorError, match="it cannot be applied"):
        replay_as_previewed(drainer.engine, "evt_kept", TOLERANCE, said.token, TESTER)
    assert drainer.event("evt_kept")["status"] == "dead"
    assert acts(drainer) == []


@pytest.fixture
def browser(folder: Path, drainer: Drainer, redis_url: str) -> FlaskClient:
    opened = console(folder, drainer.url, redis_url)
    log_in(opened)
    return opened


def test_page_shows_the_preview_and_applies_it_once_confirmed(browser: FlaskClient, drainer: Drainer) -> None:
    model = new_id()
    put_model(drainer, model, "known")
    keep_dead(drainer, event_document(model, at=minutes(10), status="active", event_id="evt/1?"), minutes(10))
    shown = '<del>waiting</del> <span aria-hidden="true">→</span> <ins>active</ins>'
    path = f"/console/acts/replay/{quote('evt/1?', safe='')}"
    assert shown in browser.get(f"/console/events/{quote('evt/1?', safe='')}").text
    page = browser.get(path)
    assert shown in page.text
    form = {"csrf_token": token(page), "token": foreseen(drainer, "evt/1?").token}
    assert form["token"] in page.text
    drainer.take(event_body(model, at=minutes(7), status="pending"))

    # Something else would happen by now.
    refused = browser.post(path, data=form)
    assert refused.status_code == 409
    assert "has changed since" in refused.text
    assert "<del>pending</del>" in refused.text
    assert drainer.row(model)["status"] == "pending"

    done = browser.post(path, data={**form, "token": foreseen(drainer, "evt/1?").token})
    assert done.status_code == 303
    assert "<del>pending</del>" in browser.get(done.headers["Location"]).text
    assert (drainer.row(model)["status"], len(acts(drainer))) == ("active", 1)


def test_replay_without_a_kept_body_is_refused(browser: FlaskClient, drainer: Drainer) -> None:
    model = new_id()
    keep_dead(drainer, event_document(model, at=T0, event_id="evt_kept"), T0)
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute("update headshotpro.webhook_events set payload = null")
    page = browser.get("/console/acts/replay/evt_kept")
    assert escape("no body is kept") in page.text
    sent = browser.post("/console/acts/replay/evt_kept", data={"csrf_token": token(page)})
    assert (sent.status_code, acts(drainer)) == (409, [])

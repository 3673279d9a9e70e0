"""No login link of a webhook body reaches Redis, Postgres or a terminal, whoever took the delivery."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from service.broker import inbox
from service.broker.client import connect_redis
from service.broker.inbox import Delivery
from service.mirror.drain import drain_batch, drain_spool
from service.storage import spool
from service.storage.database import transaction
from tests.support.system import new_id, rows, signed
from tests.support.webhook_endpoint import client_of, post, waiting

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

    from tests.support.cli import Cli
    from tests.support.mirror import Mirror, StartMirror

TOKEN = "leaktoken"


def body_with_links() -> bytes:
    """A delivery without an id that holds the link in four places, one of them spelled otherwise."""
    link = json.dumps(f"https://login.example/?token={TOKEN}")
    return (
        f'{{"event":"model.status.updated","signedUrl":{link},"createdAt":"2026-01-02T03:04:05.000Z",'
        f'"object":{{"_id":"{new_id()}","status":"active","title":"J\\u00fcrgen","signedUrl":{link},'
        f'"more":[{{"\\u0073ignedUrl":{link}}}]}},"data":{{"signed\\u0055rl":[{link}]}}}}'
    ).encode()


def id_of(body: bytes, timestamp: str) -> str:
    return "sha256:" + hashlib.sha256(timestamp.encode() + b"." + body).hexdigest()


def stored(database_url: str) -> list[dict[str, Any]]:
    return rows(database_url, "select id, status, payload::text as payload from headshotpro.webhook_events")


@pytest.fixture
def here(mirror: StartMirror) -> Mirror:
    return mirror(models=1)


def test_login_link_is_gone_before_redis_and_the_id_stays(endpoint: FlaskClient, redis_url: str) -> None:
    body = body_with_links()
    headers = signed(body)
    answer = post(endpoint, body, **headers)
    assert answer.status_code == 202, answer.text
    (entry,) = waiting(redis_url)
    assert TOKEN.encode() not in entry.body
    assert answer.json is not None
    assert answer.json["event"] == entry.event_id == id_of(body, headers["X-HeadshotPro-Timestamp"])


def test_login_link_is_gone_before_the_spool_and_the_id_stays(here: Mirror, folder: Path, database_url: str) -> None:
    endpoint = client_of(folder, DATABASE_URL=database_url)
    body = body_with_links()
    headers = signed(body)
    assert post(endpoint, body, **headers).status_code == 202
    (kept,) = here.sql("select body, event_id from headshotpro.event_spool")
    assert TOKEN.encode() not in kept["body"]
    assert drain_spool(here.runtime.engine, here.runtime.tolerance).results == {"applied": 1}
    (event,) = stored(database_url)
    assert event["id"] == kept["event_id"] == id_of(body, headers["X-HeadshotPro-Timestamp"])
    assert TOKEN not in event["payload"]


def test_drain_removes_login_links_from_deliveries_of_older_web(here: Mirror, database_url: str) -> None:
    now = datetime.now(UTC)
    body, spooled = body_with_links(), body_with_links()
    here.runtime.inbox.put(Delivery.arrived(body, int(now.timestamp()), now))
    with transaction(here.runtime.engine) as connection:
        spool.put(connection, Delivery.arrived(spooled, int(now.timestamp()), now))
    entries = here.runtime.inbox.read(10, 0)
    drain_batch(here.runtime.engine, here.runtime.inbox, entries, here.runtime.tolerance)
    drain_spool(here.runtime.engine, here.runtime.tolerance)
    events = stored(database_url)
    assert {event["id"] for event in events} == {id_of(one, str(int(now.timestamp()))) for one in (body, spooled)}
    assert all(event["status"] == "applied" and TOKEN not in event["payload"] for event in events)


def test_older_worker_reads_what_a_newer_web_process_stored(endpoint: FlaskClient, redis_url: str) -> None:
    assert post(endpoint, body_with_links()).status_code == 202
    with connect_redis(redis_url) as client:
        ((_, fields),) = client.xrange(inbox.STREAM)
    # The fields that it has always read are all there.
    assert {b"body", b"signed_at", b"received_at", b"delivery_id"} <= fields.keys()


def test_unreadable_body_that_waits_loses_its_link_too(here: Mirror, database_url: str) -> None:
    now = datetime.now(UTC)
    body = b'{"event": 5, "signedUrl": "https://login.example/?token=leaktoken", broken'
    here.runtime.inbox.put(Delivery.arrived(body, int(time.time()), now))
    entries = here.runtime.inbox.read(10, 0)
    drain_batch(here.runtime.engine, here.runtime.inbox, entries, here.runtime.tolerance)
    (event,) = stored(database_url)
    assert event["status"] == "dead"
    assert TOKEN not in event["payload"]


def test_events_show_hides_a_link_that_an_older_release_stored(here: Mirror, cli: Cli) -> None:
    here.sql(
        "insert into headshotpro.webhook_events (id, event, status, payload, received_at, processed_at) "
        "values ('evt_1', 'x', 'applied', %s, now(), now())",
        json.dumps({"object": {"signedUrl": f"https://login.example/?token={TOKEN}", "_id": "a"}}),
    )
    for options in ((), ("--json",)):
        shown = cli.run("events", "show", "evt_1", *options)
        assert shown.status == 0
        assert TOKEN not in shown.out
        assert '"_id": "a"' in shown.out

"""Subscriptions as operators see them: metrics, the newest requests, and delivery by a clock without Redis."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.subscription_schemas import OutgoingBatchWebhook, OutgoingWebhook
from service.config import load
from service.mirror.apply import apply
from service.mirror.merge import Observation
from service.runtime import Runtime
from service.storage import database
from service.storage.database import transaction
from service.storage.tables import models
from service.subscriptions import message
from service.subscriptions.commands import SubscriptionBody, SubscriptionCommands
from tests.support.acting import TESTER
from tests.support.console import console, log_in
from tests.support.drainer import T0
from tests.support.processes import eventually
from tests.support.servers import crash
from tests.support.subscriber import Subscriber
from tests.support.system import API_KEY, NOWHERE, System, new_id, rows
from tests.support.webhook_endpoint import client_of
from workers.clock import sending_thread

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.servers import Valkey
    from tests.support.alerting import AlertingHarness
    from tests.support.cli import Cli

KEYS = {"MIRROR_API_KEYS": "ro:look"}
READ_TWO = """
    with two as (select id, model_id from headshotpro.model_changes order by id limit 2),
        reading as (update headshotpro.subscriptions set read_to = (select max(id) from two))
    insert into headshotpro.subscription_deliveries (subscription_id, change_id, model_id, attempts)
    select subscriptions.id, two.id, two.model_id, 0 from headshotpro.subscriptions, two returning change_id
"""


def add(url: str, subscriber: Subscriber, name: str = "orders") -> SubscriptionCommands:
    commands = SubscriptionCommands(database.connect(url), TESTER)
    subscriber.secrets = [commands.add(SubscriptionBody(name, subscriber.url))]
    return commands


def change(url: str, models: int) -> None:
    engine = database.connect(url)
    with transaction(engine) as connection:
        apply(connection, [Observation(new_id(), T0, T0, {"status": "waiting"}) for _ in range(models)], "webhook")
    engine.dispose()


def samples(folder: Path, url: str, redis_url: str) -> dict[tuple[str, ...], float]:
    """The samples of subscriptions, by name and the values of their labels."""
    web = client_of(folder, DATABASE_URL=url, REDIS_URL=redis_url, **KEYS)
    page = web.get("/metrics", headers={"Authorization": "Bearer look"}).text
    return {
        (sample.name.removeprefix("headshotpro_subscription_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("headshotpro_subscription_")
    }


def test_metrics_show_each_subscription_and_its_requests(folder: Path, database_url: str, redis_url: str) -> None:
    environ = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "HEADSHOTPRO_API_URL": NOWHERE}
    runtime = Runtime.build(load(environ={**environ, "HEADSHOTPRO_API_KEY": API_KEY}, dotenv=folder / ".env"))
    with Subscriber(lambda number, _request: 503 if number == 1 else 204) as subscriber, Subscriber() as idle:
        add(database_url, subscriber)
        add(database_url, idle, "waits").pause("waits")
        change(database_url, 3)
        sending = sending_thread(runtime)
        sending.start()
        assert eventually(lambda: len(subscriber.seen) == 3)
        runtime.stop.set()
        sending.join(10)
    runtime.counters.flush()
    found = samples(folder, database_url, redis_url)
    assert (found["requests_total", "acknowledged"], found["requests_total", "server_error"]) == (3, 1)
    assert found["requests_total", "no_response"] == 0
    assert found["latency_seconds_count",] == 3
    assert (found["changes_total", "orders"], found["changes_total", "waits"]) == (3, 0)
    assert (found["changes_waiting", "orders"], found["changes_waiting", "waits"]) == (0, 0)
    assert (found["changes_unread", "orders"], found["changes_unread", "waits"]) == (0, 3)
    assert found["oldest_seconds", "orders"] == 0 < found["oldest_seconds", "waits"] < 600
    states = {key[1:]: value for key, value in found.items() if key[0] == "state"}
    assert {key for key, value in states.items() if value} == {("active", "orders"), ("paused", "waits")}
    assert len(states) == 8
    runtime.engine.dispose()
    runtime.redis.close()


def test_waiting_and_unread_are_the_same_numbers_everywhere(
    cli: Cli, folder: Path, database_url: str, redis_url: str
) -> None:
    with Subscriber() as subscriber:
        add(database_url, subscriber).pause("orders")
    change(database_url, 5)
    rows(database_url, READ_TWO)
    found = samples(folder, database_url, redis_url)
    assert (found["changes_waiting", "orders"], found["changes_unread", "orders"]) == (2, 3)
    (listed,) = cli.run("subscriptions", "list", "--json").document
    assert (listed["waiting"], listed["unread"]) == (2, 3)
    browser = console(folder, database_url, redis_url, **KEYS)
    response = browser.get("/api/v2/subscriptions", headers={"Authorization": "Bearer look"})
    (sent,) = msgspec.json.decode(response.data)["subscriptions"]
    assert (sent["waiting"], sent["unread"]) == (2, 3)
    log_in(browser)
    page = browser.get("/console/subscriptions").text
    columns = re.findall(r'<th scope="col" class="number">(.*?)</th>', page)
    shown = dict(zip(columns, re.findall(r'<td class="number">(.*?)</td>', page), strict=True))
    assert (shown["Waiting"], shown["Unread"]) == ("2", "3")
    shown = dict(re.findall(r"<dt>(.*?)</dt><dd>(\d+)<", browser.get("/console/subscriptions/orders").text))
    assert (shown["Waiting"], shown["Unread"]) == ("2", "3")


def test_newest_requests_are_kept_with_status_and_duration(cli: Cli, database_url: str, folder: Path) -> None:
    environ = {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:9", "HEADSHOTPRO_API_URL": NOWHERE}
    runtime = Runtime.build(load(environ={**environ, "HEADSHOTPRO_API_KEY": API_KEY}, dotenv=folder / ".env"))
    with Subscriber(lambda number, _request: 503 if number == 1 else 204) as subscriber:
        add(database_url, subscriber)
        change(database_url, 24)
        sending = sending_thread(runtime)
        sending.start()
        assert eventually(lambda: len(subscriber.seen) == 24)
        runtime.stop.set()
        sending.join(10)
    (row,) = rows(database_url, "select recent_requests from headshotpro.subscriptions")
    kept = row["recent_requests"]
    assert len(kept) == 20
    retried = kept[0]
    assert (retried["attempt"], retried["status"], retried["error"], retried["changes"]) == (2, 204, None, 1)
    assert 0 < retried["ms"] < 15_000
    assert retried["at"] >= kept[-1]["at"]
    shown = cli.run("subscriptions", "show", "orders", "--json").document
    assert shown["recent_requests"] == kept
    runtime.engine.dispose()
    runtime.redis.close()


def test_clock_delivers_while_redis_is_stopped(folder: Path, database_url: str, own_valkey: Valkey) -> None:
    crash(own_valkey)
    with Subscriber() as subscriber, System(folder, DATABASE_URL=database_url, REDIS_URL=own_valkey.url) as system:
        add(database_url, subscriber)
        system.start("clock")
        change(database_url, 5)
        assert eventually(lambda: len(subscriber.seen) == 5), system.logs()
        written = "select from headshotpro.subscriptions where delivered = 5"
        assert eventually(lambda: rows(database_url, written))


def test_failing_subscription_opens_an_alert_until_it_is_well(here: AlertingHarness, database_url: str) -> None:
    with Subscriber() as subscriber:
        commands = add(database_url, subscriber)
        here.look()
        rows(database_url, "update headshotpro.subscriptions set state = 'failing', reason = 'it fails' returning id")
        here.look()
        (alert,) = open_alerts(database_url)
        assert alert["detail"]["subscriptions"] == ["orders"]
        commands.resume("orders")
        here.look()
        assert open_alerts(database_url) == []


def open_alerts(url: str) -> list[dict[str, Any]]:
    query = "select detail from headshotpro.alerts where kind = 'subscription_failing' and resolved_at is null"
    return rows(url, query)


@pytest.mark.parametrize(("name", "shape"), [("change", OutgoingWebhook), ("batch", OutgoingBatchWebhook)])
def test_openapi_document_describes_the_bodies_that_are_sent(
    folder: Path, name: str, shape: type[msgspec.Struct]
) -> None:
    document = client_of(folder, **KEYS).get("/api/openapi.json").json
    assert document is not None
    content = document["webhooks"][name]["post"]["requestBody"]["content"]["application/json"]
    assert content["schema"] == {"$ref": f"#/components/schemas/{shape.__name__}"}
    at = datetime(2026, 3, 4, tzinfo=UTC)
    row = {column.name: None for column in models.columns} | {"id": "m", "status": "active", "is_development": False}
    change = {
        "id": 7, "model_id": "m", "from_status": None, "to_status": "active", "changed": {"status": [None, "active"]},
        "source": "webhook", "observed_at": at, "recorded_at": at, "row": {**row, "observed_at": at, "updated_at": at},
    }  # fmt: skip
    # The schema is made of these types: what they can read is what it describes.
    msgspec.json.decode(message.body([change], batch=name == "batch", personal=True), type=shape)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"type": "model.other"}', type=shape)

"""Logs: a line for each delivery, batch and page, its ids bound; of the people behind the models not a word."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import eventually
from tests.support.system import System, event_body, new_id, rows, signed
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartSandbox

KEY = "key-for-metrics"
NAME = "Zaphod Leakwright"
EMAIL = "zaphod@leak.example"


class Traffic:
    """A deployment of its own sandbox, in which every person is called Zaphod and every step fails once."""

    def __init__(self, system: System, vendor: SandboxClient, secret: str) -> None:
        self.system = system
        self.vendor = vendor
        self.secret = secret
        self.pages: list[str] = []

    def deliver(self, body: bytes, **changed: Any) -> int:
        """Post a delivery, keep what is answered: its status."""
        answer = self.system.post(body, {**signed(body, secret=self.secret), **changed})
        self.pages.append(answer.data.decode())
        return answer.status

    def lines(self) -> list[dict[str, Any]]:
        """Every line that the processes logged."""
        found = [line for started in self.system.started for line in started.said.splitlines()]
        return [json.loads(line) for line in found]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event]


@pytest.fixture
def traffic(folder: Path, sandbox: StartSandbox, database_url: str, redis_url: str) -> Iterator[Traffic]:
    running = sandbox(models=0, quiet=True, rate=0)
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "HEADSHOTPRO_API_URL": running.url,
        "HEADSHOTPRO_API_KEY": running.api_key,
        "HEADSHOTPRO_WEBHOOK_SECRET": running.webhook_secret,
        "MIRROR_API_KEYS": f"ro:{KEY}",
        "HOT_PULL_INTERVAL_SECONDS": "1",
        "LOG_LEVEL": "debug",
    }
    vendor = SandboxClient(running)
    vendor.control("POST", "/models", {"title": NAME, "email": EMAIL, "status": "failed"})
    with System(folder, **settings) as system:
        system.start_all()
        yield Traffic(system, vendor, running.webhook_secret)


def test_logs_show_each_delivery_batch_and_page_but_no_person(traffic: Traffic, database_url: str) -> None:
    person = {"title": NAME, "email": EMAIL, "signedUrl": "https://login.example/?token=leaktoken"}
    model, event = new_id(), f"evt_{secrets.token_hex(8)}"
    assert traffic.deliver(event_body(model, event_id=event, status="failed", **person)) == 202
    # Bodies that are refused, and bodies that are taken and cannot be applied.
    assert traffic.deliver(f"{NAME} <{EMAIL}> leaktoken".encode()) == 400
    assert traffic.deliver(event_body(model, **person), **{"X-HeadshotPro-Signature": "sha256=leaktoken"}) == 401
    old = event_body(model, **person)
    assert traffic.deliver(old, **signed(old, secret=traffic.secret, at=1_700_000_000)) == 401
    dead = [
        event_body(new_id(), **{**person, "title": {"leaktoken": NAME}}),
        event_body(new_id(), **{**person, "createdAt": NAME}),
        event_body("x" * 300, **person),
        event_body(new_id(), **{**person, "status": f"{NAME}\x00"}),
    ]
    assert [traffic.deliver(body) for body in dead] == [202] * len(dead)
    # Errors of the vendor's.
    assert eventually(lambda: traffic.of("pull.ended")), traffic.system.logs()
    traffic.vendor.control("POST", "/hostile", {"errors": 0.3})
    traffic.vendor.control("POST", "/models", {"title": NAME, "email": f"b{EMAIL}", "status": "pending", "n": 1})
    count = "select count(*) as n from headshotpro.webhook_events"
    assert eventually(lambda: rows(database_url, count)[0]["n"] == 1 + len(dead)), traffic.system.logs()
    assert eventually(lambda: len(traffic.of("pull.ended")) >= 3), traffic.system.logs()
    metrics = traffic.system._send("GET", "/metrics", None, {"Authorization": f"Bearer {KEY}"})
    assert metrics.status == 200
    traffic.pages.append(metrics.data.decode())

    deliveries = traffic.of("delivery")
    assert [line["answer"] for line in deliveries] == [
        "accepted", "malformed", "forged", "stale", *["accepted"] * len(dead),
    ]  # fmt: skip
    assert (deliveries[0]["event_id"], deliveries[0]["model_id"]) == (event, model)
    assert traffic.of("batch")
    assert traffic.of("page")
    # A job's lines name the job; a pull's lines name the pull as well.
    assert all(line["job_id"] for line in traffic.of("batch"))
    assert all(line["job_id"] and line["pull_id"] for line in traffic.of("page"))
    errors = rows(database_url, "select concat(error) as error from headshotpro.webhook_events")
    failures = rows(database_url, "select concat(error) as error from headshotpro.pulls")
    everything = "\n".join(
        [
            *(started.said for started in traffic.system.started),
            *traffic.pages,
            *(row["error"] for row in errors + failures),
        ]
    ).lower()
    secret_settings = [traffic.secret, KEY, traffic.system.settings["HEADSHOTPRO_API_KEY"] or ""]
    for word in ("zaphod", "leakwright", "leak.example", "leaktoken", "signedurl", *secret_settings):
        assert word.lower() not in everything, word

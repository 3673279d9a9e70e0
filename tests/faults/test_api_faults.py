"""The API while servers are gone, and the endpoint while the API is asked for more than it can give."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
import urllib3

from service.storage.migrations.schema import migrate
from tests.support.api import KEY, KEYS, MODELS
from tests.support.processes import eventually
from tests.support.system import System, event_body, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.local.servers import Postgres, Valkey

SEED = """
    insert into headshotpro.models (id, title, status, created_at, observed_at, updated_at)
    select lpad(to_hex(n), 24, '0'), 'Person ' || n, 'active', to_timestamp(n), now(), now()
    from generate_series(1, 2000) as n
"""


@pytest.fixture
def system(own_postgres: Postgres, own_valkey: Valkey, folder: Path) -> Iterator[System]:
    """A web process over servers that the test may stop, with two thousand models."""
    migrate(own_postgres.url)
    rows(own_postgres.url, SEED + " returning id")
    with System(
        folder, DATABASE_URL=own_postgres.url, REDIS_URL=own_valkey.url, MIRROR_API_KEYS=KEYS, LOG_LEVEL="error"
    ) as started:
        started.start("web")
        started.wait_for_web()
        yield started


def read(system: System, query: str = "?limit=200") -> urllib3.BaseHTTPResponse:
    headers = {"Authorization": f"Bearer {KEY}"}
    return urllib3.request("GET", system.url + MODELS + query, headers=headers, retries=False, timeout=30)


def test_reads_go_on_without_redis(system: System, own_valkey: Valkey) -> None:
    own_valkey.stop()
    assert read(system).status == 200


def test_api_is_503_and_webhook_accepts_while_postgres_is_down(system: System, own_postgres: Postgres) -> None:
    assert read(system).status == 200
    own_postgres.stop()
    before = time.monotonic()
    answers = [read(system) for _ in range(10)]
    assert time.monotonic() - before < 20
    assert {(answer.status, answer.headers["Retry-After"]) for answer in answers} == {(503, "5")}
    assert system.deliver(event_body(new_id())).status == 202
    own_postgres.restart()
    assert eventually(lambda: read(system).status == 200, 30)


@contextmanager
def hammering(system: System, clients: int) -> Iterator[list[int]]:
    """Clients that read pages as fast as they can; the statuses that they got."""
    stop, statuses = threading.Event(), list[int]()

    def hammer() -> None:
        while not stop.is_set():
            statuses.append(read(system).status)

    threads = [threading.Thread(target=hammer) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def seconds_of_a_delivery(system: System, number: int = 30) -> float:
    taken = []
    for _ in range(number):
        before = time.perf_counter()
        assert system.deliver(event_body(new_id())).status == 202
        taken.append(time.perf_counter() - before)
    return statistics.median(taken)


def test_a_hammered_api_does_not_stop_the_door(system: System) -> None:
    with hammering(system, 24) as statuses:
        assert eventually(lambda: len(statuses) > 50)
        delivery = seconds_of_a_delivery(system)
        before = len(statuses)
        page = read(system).status
    assert page in (200, 503)
    assert before < len(statuses)
    assert set(statuses) <= {200, 503}
    # One process serves both: were deliveries to wait in the API's line, each would take the time of 24 pages.
    assert delivery < 24 * seconds_of_a_page(system)


def seconds_of_a_page(system: System) -> float:
    taken = []
    for _ in range(20):
        before = time.perf_counter()
        assert read(system).status == 200
        taken.append(time.perf_counter() - before)
    return statistics.median(taken)


def test_slow_reads_hold_no_delivery_up(system: System, own_postgres: Postgres) -> None:
    # Every connection of the API waits for a lock: its callers are sent away in time, deliveries take no longer.
    with psycopg.connect(own_postgres.url) as blocker, hammering(system, 12) as statuses:
        blocker.execute("lock table headshotpro.models in access exclusive mode")
        assert eventually(lambda: 503 in statuses, 30)
        assert seconds_of_a_delivery(system, 10) < 2
        blocker.rollback()
        assert eventually(lambda: statuses[-1] == 200, 30)
    assert set(statuses) <= {200, 503}

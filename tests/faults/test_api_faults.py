"""The API while servers are unavailable, and the endpoint while the API is overloaded."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import psycopg
import pytest
import urllib3

from service.api.reads import STATEMENT_SECONDS
from service.config import force_wheels
from service.local.servers import Valkey
from service.storage.statement_deadlines import CHECK_SECONDS, GRACE_SECONDS
from tests.support.api import KEY, KEYS, MODELS
from tests.support.processes import eventually, suspended
from tests.support.servers import new_postgres, temporary_folder
from tests.support.system import System, event_body, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("api faults")

SEED = """
    insert into headshotpro.models (id, title, status, created_at, observed_at, updated_at)
    select lpad(to_hex(n), 24, '0'), 'Person ' || n, 'active', to_timestamp(n), now(), now()
    from generate_series(1, 2000) as n
"""


class Servers(NamedTuple):
    """The two servers that web works with."""

    postgres: Postgres
    valkey: Valkey


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """A Postgres with two thousand models and a Valkey: a test that stops one starts it again."""
    with (
        temporary_folder() as folder,
        new_postgres(folder / "postgres", migrated=True) as postgres,
        Valkey.start(folder / "valkey", force_wheels=force_wheels()) as valkey,
    ):
        rows(postgres.url, SEED + " returning id")
        yield Servers(postgres, valkey)


@pytest.fixture(scope="module")
def system(servers: Servers) -> Iterator[System]:
    """One web process over the two servers; each test leaves it able to read and to accept."""
    urls = {"DATABASE_URL": servers.postgres.url, "REDIS_URL": servers.valkey.url}
    with (
        temporary_folder() as folder,
        System(folder, **urls, MIRROR_API_KEYS=KEYS, LOG_LEVEL="error") as started,
    ):
        started.start("web")
        started.wait_for_web()
        yield started


def read(system: System, query: str = "?limit=200") -> urllib3.BaseHTTPResponse:
    headers = {"Authorization": f"Bearer {KEY}"}
    return urllib3.request("GET", system.url + MODELS + query, headers=headers, retries=False, timeout=30)


def test_reads_go_on_without_redis(system: System, servers: Servers) -> None:
    servers.valkey.stop()
    try:
        assert read(system).status == 200
    finally:
        servers.valkey.boot()
    assert eventually(lambda: b"redis: ok" in system.get("/readyz").data)


def test_api_is_503_and_webhook_accepts_while_postgres_is_down(system: System, servers: Servers) -> None:
    assert read(system).status == 200
    servers.postgres.stop()
    try:
        before = time.monotonic()
        answers = [read(system) for _ in range(10)]
        assert time.monotonic() - before < 20
        assert {(answer.status, answer.headers["Retry-After"]) for answer in answers} == {(503, "5")}
        assert system.deliver(event_body(new_id())).status == 202
    finally:
        servers.postgres.boot()
    assert eventually(lambda: read(system).status == 200)


def test_reads_end_while_postgres_takes_statements_and_hangs(system: System, servers: Servers) -> None:
    """The kernel of its machine acknowledges them, so no timeout of libpq ends the wait."""
    # The pool keeps some of these connections.
    with ThreadPoolExecutor(6) as threads:
        assert {answer.status for answer in threads.map(lambda _: read(system), range(6))} == {200}
        with suspended(servers.postgres):
            before = time.monotonic()
            answers = list(threads.map(lambda _: read(system), range(6)))
            taken = time.monotonic() - before
    assert {answer.status for answer in answers} == {503}
    # An old connection is given up, and for a new one `connect` waits for five seconds.
    assert taken < STATEMENT_SECONDS + GRACE_SECONDS + CHECK_SECONDS + 5 + 2
    assert eventually(lambda: read(system).status == 200)


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


def test_api_under_load_does_not_stop_the_webhook_endpoint(system: System) -> None:
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


def test_slow_reads_hold_no_delivery_up(system: System, servers: Servers) -> None:
    # Every connection of the API waits for a lock: its callers are sent away in time, deliveries take no longer.
    with psycopg.connect(servers.postgres.url) as blocker, hammering(system, 12) as statuses:
        blocker.execute("lock table headshotpro.models in access exclusive mode")
        assert eventually(lambda: 503 in statuses)
        assert seconds_of_a_delivery(system, 10) < 2
        blocker.rollback()
        assert eventually(lambda: statuses[-1] == 200)
    assert set(statuses) <= {200, 503}

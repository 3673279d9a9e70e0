"""Deliveries that Redis cannot take: Postgres keeps them, and they are applied from there by the same rules."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from service.broker.client import connect_redis
from service.broker.inbox import Delivery
from service.mirror.drain import drain_spool
from service.storage import spool
from service.storage.database import transaction
from tests.support.drainer import T0, TOLERANCE, Drainer, minutes
from tests.support.system import event_body, model_row, new_id, rows
from tests.support.webhook_endpoint import assert_refused, client_of, post, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.local.servers import Postgres, Valkey


def spooled(url: str) -> list[dict[str, Any]]:
    return rows(url, "select * from headshotpro.event_spool order by id")


def keep(drainer: Drainer, *bodies: bytes) -> None:
    """Put deliveries into the spool, as the endpoint does."""
    for body in bodies:
        with transaction(drainer.engine) as connection:
            spool.put(connection, Delivery.arrived(body, int(T0.timestamp()), T0))


def test_without_redis_a_delivery_is_kept_in_postgres_as_it_was(folder: Path, database_url: str) -> None:
    body = event_body(new_id())
    answer = post(client_of(folder, DATABASE_URL=database_url), body)
    assert answer.status_code == 202
    (kept,) = spooled(database_url)
    assert bytes(kept["body"]) == body
    assert kept["delivery_id"]


def test_with_neither_server_the_vendor_is_told_to_come_again(folder: Path) -> None:
    answer = post(client_of(folder), event_body(new_id()))
    assert_refused(answer, 503, "UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_schema_that_has_no_spool_yet_is_no_500(folder: Path, empty_database_url: str) -> None:
    assert_refused(post(client_of(folder, DATABASE_URL=empty_database_url), event_body(new_id())), 503, "UNAVAILABLE")


def test_a_postgres_that_only_reads_is_no_500(folder: Path, own_migrated_postgres: Postgres) -> None:
    with psycopg.connect(own_migrated_postgres.url, autocommit=True) as connection:
        connection.execute("alter database headshotpro set default_transaction_read_only = on")
    endpoint = client_of(folder, DATABASE_URL=own_migrated_postgres.url)
    assert_refused(post(endpoint, event_body(new_id())), 503, "UNAVAILABLE")
    readyz = endpoint.get("/readyz")
    assert (readyz.status_code, "postgres: unavailable" in readyz.text) == (503, True)


def test_full_redis_moves_deliveries_to_spool_and_loses_none(
    folder: Path, database_url: str, own_valkey: Valkey
) -> None:
    endpoint = client_of(folder, DATABASE_URL=database_url, REDIS_URL=own_valkey.url)
    assert post(endpoint, event_body(new_id())).status_code == 202
    with connect_redis(own_valkey.url) as client:
        client.config_set("maxmemory", "1mb")
        answers = [post(endpoint, event_body(new_id(), title="x" * 20_000)).status_code for _ in range(20)]
        assert answers == [202] * 20
        assert len(spooled(database_url)) + client.xlen("headshotpro:inbox") == 21
    assert len(spooled(database_url)) > 0
    readyz = endpoint.get("/readyz")
    assert (readyz.status_code, "redis: full" in readyz.text) == (200, True)


def test_an_inbox_that_is_full_takes_no_more_and_postgres_does(folder: Path, database_url: str, redis_url: str) -> None:
    endpoint = client_of(folder, DATABASE_URL=database_url, REDIS_URL=redis_url, INBOX_LIMIT="10")
    assert [post(endpoint, event_body(new_id())).status_code for _ in range(15)] == [202] * 15
    assert (len(waiting(redis_url)), len(spooled(database_url))) == (10, 5)
    readyz = endpoint.get("/readyz")
    assert (readyz.status_code, "redis: full" in readyz.text) == (200, True)


def test_full_inbox_without_postgres_is_503_and_drops_nothing(folder: Path, redis_url: str) -> None:
    endpoint = client_of(folder, REDIS_URL=redis_url, INBOX_LIMIT="10")
    assert [post(endpoint, event_body(new_id())).status_code for _ in range(12)] == [202] * 10 + [503] * 2
    assert endpoint.get("/readyz").status_code == 503
    assert len(waiting(redis_url)) == 10


def test_spool_is_empty_after_its_deliveries_are_applied(drainer: Drainer) -> None:
    model = new_id()
    keep(drainer, event_body(model, at=T0, status="waiting", event_id="evt_1"), event_body(model, at=minutes(1)))
    assert drain_spool(drainer.engine, TOLERANCE).results == {"applied": 2}
    assert drainer.row(model)["status"] == "active"
    assert drainer.event("evt_1")["deliveries"] == 1
    assert spooled(drainer.url) == []
    assert drain_spool(drainer.engine, TOLERANCE).results == {}


def test_what_another_drain_is_applying_is_left_to_it(drainer: Drainer) -> None:
    keep(drainer, event_body(new_id()))
    with transaction(drainer.engine) as connection:
        assert len(spool.take(connection, 10, 1000)) == 1
        assert drain_spool(drainer.engine, TOLERANCE).results == {}


def test_delivery_in_both_inbox_and_spool_counts_once(drainer: Drainer) -> None:
    body = event_body(new_id(), at=T0, event_id="evt_1")
    delivery = Delivery.arrived(body, int(T0.timestamp()), T0)
    drainer.box.put(delivery)
    with transaction(drainer.engine) as connection:
        spool.put(connection, delivery)
    assert drainer.drain().results == {"applied": 1}
    assert drain_spool(drainer.engine, TOLERANCE).results == {"repeated": 1}
    assert drainer.event("evt_1")["deliveries"] == 1
    # Another delivery of the same event is one more.
    keep(drainer, body)
    drain_spool(drainer.engine, TOLERANCE)
    assert drainer.event("evt_1")["deliveries"] == 2


@contextmanager
def refusing(drainer: Drainer, word: str) -> Iterator[None]:
    """Postgres refuses events whose payload holds a word."""
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute(
            f"alter table headshotpro.webhook_events add constraint poison check (payload::text not like '%{word}%')"
        )
        yield
        connection.execute("alter table headshotpro.webhook_events drop constraint poison")


def test_a_poisoned_event_of_the_spool_is_dead_alone(drainer: Drainer) -> None:
    good, bad = new_id(), new_id()
    # Refused as it is; as text it is taken, for its quotes are escaped.
    keep(drainer, event_body(good, at=T0), event_body(bad, at=T0, event_id="evt_bad", title="poison"))
    with refusing(drainer, '"poison"'):
        assert drain_spool(drainer.engine, TOLERANCE).results == {"applied": 1, "dead": 1}
    assert drainer.row(good)["status"] == "active"
    assert model_row(drainer.url, bad) is None
    assert drainer.event("evt_bad")["error"] == "Postgres refused it: CheckViolation"
    assert spooled(drainer.url) == []

"""The server that takes writes becomes another: a Redis or Postgres that is managed, or watched by Sentinels."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text

from service.broker import durability
from service.broker.client import connect_redis
from service.broker.inbox import Delivery, Inbox
from service.errors import PostgresUnavailable, RedisUnavailable
from service.local.servers import Postgres, Valkey
from service.storage import database
from tests.support.processes import eventually
from tests.support.replicas import follow, promote, replica, secret, standby, with_sentinel
from tests.support.servers import crash, new_postgres
from tests.support.system import System, event_body, model_row, new_id
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine


class Pair:
    """A Valkey and its replica, and what happens when they change places.

    Attributes:
        url: what people type into REDIS_URL.
    """

    def __init__(self, url: str, fail_over: Callable[[], None]) -> None:
        self.url = url
        self.fail_over = fail_over


@contextmanager
def behind_an_address(folder: Path) -> Iterator[Pair]:
    """As managed services do it: an address leads to the new primary; the old one lives, follows, and keeps clients."""
    with (
        Valkey.start(folder / "one", sync="no") as one,
        replica(one, folder / "other") as other,
        TcpProxy(one.port) as address,
    ):

        def fail_over() -> None:
            promote(other)
            follow(one, other)
            address.retarget(other.port)

        yield Pair(f"redis://:{secret(one)}@127.0.0.1:{address.port}/0", fail_over)


@contextmanager
def behind_a_sentinel(folder: Path) -> Iterator[Pair]:
    """The primary is killed; the Sentinel finds that out and promotes the other."""
    with (
        Valkey.start(folder / "one", sync="no") as one,
        replica(one, folder / "other"),
        with_sentinel(one, folder / "sentinel") as url,
    ):
        yield Pair(url, partial(crash, one))


@pytest.mark.long
def test_every_delivery_is_applied_across_a_sentinel_failover(folder: Path, database_url: str) -> None:
    (folder / "system").mkdir()
    with (
        behind_a_sentinel(folder) as servers,
        System(folder / "system", DATABASE_URL=database_url, REDIS_URL=servers.url) as system,
    ):
        system.start_all()
        models = [deliver(system)]
        assert eventually(lambda: model_row(database_url, models[0])), system.logs()
        servers.fail_over()
        models += [deliver(system) for _ in range(20)]
        assert eventually(lambda: b"redis: ok" in system.get("/readyz").data), system.get("/readyz").data
        models += [deliver(system) for _ in range(10)]
        assert eventually(lambda: all(model_row(database_url, model) for model in models)), system.logs()
        with connect_redis(servers.url) as client:
            assert eventually(lambda: Inbox(client).depth().events == 0), system.logs()
        assert [started.process.poll() for started in system.started] == [None] * 3


def deliver(system: System) -> str:
    """A delivery that is accepted: the id of its model."""
    model = new_id()
    answer = system.deliver(event_body(model))
    assert answer.status == 202, answer.data
    return model


@contextmanager
def two_postgres(folder: Path) -> Iterator[tuple[Postgres, Postgres]]:
    """A migrated Postgres and its standby."""
    with (
        new_postgres(folder / "one", migrated=True, durable=True) as one,
        standby(one, folder / "other") as other,
    ):
        yield one, other


def test_every_delivery_is_applied_across_a_postgres_failover(folder: Path, redis_url: str) -> None:
    (folder / "system").mkdir()
    with two_postgres(folder) as (one, other):
        a_connection_to_the_standby_heals(one, other)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (one, other))
        url = f"postgresql://headshotpro:{secret(one)}@{hosts}/headshotpro?target_session_attrs=read-write"
        with System(folder / "system", DATABASE_URL=url, REDIS_URL=redis_url) as system:
            system.start_all()
            models = [deliver(system)]
            assert eventually(lambda: model_row(one.url, models[0])), system.logs()
            crash(one)
            models += [deliver(system) for _ in range(10)]
            with psycopg.connect(other.url, autocommit=True) as connection:
                connection.execute("select pg_promote()")
            models += [deliver(system) for _ in range(10)]
            assert eventually(lambda: all(model_row(other.url, model) for model in models)), system.logs()
            assert [started.process.poll() for started in system.started] == [None] * 3


def a_connection_to_the_standby_heals(one: Postgres, other: Postgres) -> None:
    """An address that leads to the standby still, and then to the primary."""
    with TcpProxy(other.port) as address:
        engine = database.connect(f"postgresql://headshotpro:{secret(one)}@127.0.0.1:{address.port}/headshotpro")
        with pytest.raises(PostgresUnavailable, match="takes no writes"):
            write(engine)
        address.retarget(one.port)
        write(engine)
        engine.dispose()


def write(engine: Engine) -> None:
    with database.transaction(engine) as connection:
        connection.execute(text("insert into headshotpro.organization (uid, recorded_at) values ('org', now())"))


def test_client_refused_by_demoted_redis_finds_new_primary(folder: Path) -> None:
    with behind_an_address(folder) as servers, connect_redis(servers.url) as client:
        box = Inbox(client)
        box.put(delivery())
        servers.fail_over()
        # This connection still leads to the old one, which says what it is.
        assert durability.capacity(client, 10).state == "read-only"
        with pytest.raises(RedisUnavailable, match="read only"):
            box.put(delivery())
        assert box.put(delivery()).length == 2
        assert durability.capacity(client, 10).state == "ok"


def delivery() -> Delivery:
    return Delivery.arrived(b"{}", 0, datetime.now(UTC))

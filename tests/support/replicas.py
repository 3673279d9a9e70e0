"""A second server that follows the first, as managed services keep one, and what makes it the first."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import psycopg
import redis

from service.config import force_wheels
from service.local.servers import Postgres, Valkey
from service.local.servers.folder import ServerFolder, write_private
from service.parent_death import die_with_parent
from tests.support.ports import free_port
from tests.support.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SENTINEL_PASSWORD = "of-the-sentinel"
SERVICE = "mirror"
SENTINEL = """\
port {port}
bind 127.0.0.1
dir "{folder}"
requirepass {own}
sentinel monitor {service} 127.0.0.1 {primary} 1
sentinel auth-pass {service} {password}
sentinel down-after-milliseconds {service} 1000
sentinel failover-timeout {service} 5000
"""


def replica(primary: Valkey, folder: Path) -> Valkey:
    """A Valkey that has copied another, and follows it."""
    write_private(ServerFolder(folder).path / "password", secret(primary))
    server = Valkey.start(folder, force_wheels=force_wheels())
    follow(server, primary)
    return server


def follow(server: Valkey, primary: Valkey) -> None:
    """Demote a Valkey: it becomes a copy of another, and keeps its clients."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("masterauth", secret(primary))
        client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        assert eventually(lambda: told(client)["master_link_status"] == "up"), told(client)


def promote(server: Valkey) -> None:
    """Let a Valkey take writes."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("masterauth", secret(server))
        client.execute_command("REPLICAOF", "NO", "ONE")


def told(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.info("replication")
    return found


def secret(server: Valkey | Postgres) -> str:
    """The password of one of the tests' servers."""
    return server.folder.password


@contextmanager
def with_sentinel(primary: Valkey, folder: Path) -> Iterator[str]:
    """A Sentinel that watches over a Valkey and its replica: the URL that leads through it."""
    folder.mkdir()
    port = free_port()
    with redis.Redis.from_url(primary.url) as client:
        client.config_set("masterauth", secret(primary))
    values = {"port": port, "folder": folder, "service": SERVICE, "primary": primary.port, "own": SENTINEL_PASSWORD}
    config = folder / "sentinel.conf"
    config.write_text(SENTINEL.format(**values, password=secret(primary)))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            die_with_parent([primary.binary.program, config, "--sentinel"], SIGTERM), stdout=log, stderr=log
        ) as process,
        redis.Redis(port=port, password=SENTINEL_PASSWORD) as client,
    ):
        # It knows the replica once it has asked the primary about it.
        assert eventually(lambda: knows_a_replica(client)), (folder / "log").read_text()
        options = f"sentinel_password={SENTINEL_PASSWORD}"
        try:
            yield f"redis+sentinel://:{secret(primary)}@127.0.0.1:{port}/{SERVICE}/0?{options}"
        finally:
            process.terminate()


def knows_a_replica(client: Any) -> bool:
    try:
        return bool(client.execute_command("SENTINEL", "REPLICAS", SERVICE))
    except redis.exceptions.RedisError:
        return False


def standby(primary: Postgres, folder: Path) -> Postgres:
    """A Postgres that has copied another, and follows it; the other's commits wait for it, so that none is lost."""
    place = ServerFolder(folder)
    write_private(place.path / "password", secret(primary))
    conninfo = primary.url_of("postgres") + "?application_name=standby"
    copy = [primary.binary.program.with_name("pg_basebackup"), "-D", place.data, "-R", "-d", conninfo, "-c", "fast"]
    subprocess.run(copy, check=True, capture_output=True)
    server = Postgres.start(folder, force_wheels=force_wheels())
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute("alter system set synchronous_standby_names = '*'")
        connection.execute("select pg_reload_conf()")
        query = "select count(*) from pg_stat_replication where sync_state = 'sync'"
        assert eventually(lambda: (connection.execute(query).fetchone() or (0,))[0] == 1)
    return server

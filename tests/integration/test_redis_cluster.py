"""Redis Cluster is refused by name at each start and each connection, and no delivery is lost to it."""

from __future__ import annotations

import subprocess
import time
from contextlib import closing, suppress
from signal import SIGTERM
from typing import TYPE_CHECKING

import pytest
import redis
from msgspec import structs

from service.broker import inbox
from service.broker.client import connect_redis, require_usable_redis
from service.config import force_wheels
from service.errors import ClusterRefused, SettingsError
from service.local.servers.binaries import find_valkey
from service.parent_death import die_with_parent
from service.upstream.budget import Priority, RequestBudget
from service.web import create_app
from tests.support.cli import Cli
from tests.support.ports import free_port
from tests.support.system import WEBHOOK_PATH, event_body, new_id, signed
from workers import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.mirror import Mirror


@pytest.fixture
def cluster_url(tmp_path: Path) -> Iterator[str]:
    """A cluster of one server that has every slot: it takes any single key."""
    port = free_port()
    binary = find_valkey(force_wheels=force_wheels())
    options = f"--port {port} --bind 127.0.0.1 --dir {tmp_path} --cluster-enabled yes --cluster-port {free_port()}"
    process = subprocess.Popen(
        die_with_parent([binary.program, *options.split()], SIGTERM),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with closing(redis.Redis(port=port)) as client:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with suppress(redis.RedisError):
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                    break
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("options", ["", "?protocol=2", "?protocol=3"])
def test_each_connection_to_a_cluster_is_refused(cluster_url: str, options: str) -> None:
    with closing(connect_redis(cluster_url + options)) as client:
        for _ in range(2):
            with pytest.raises(ClusterRefused, match="Redis Cluster"):
                inbox.Inbox(client).depth()
        with pytest.raises(ClusterRefused):
            RequestBudget(client, 0.8, 0.1).acquire(Priority.REFETCH)
    with pytest.raises(SettingsError, match="REDIS_URL leads to a Redis Cluster"):
        require_usable_redis(cluster_url + options)


def test_a_single_server_is_taken_in_both_protocols(redis_url: str) -> None:
    for options in ("", "?protocol=2", "?protocol=3"):
        require_usable_redis(redis_url + options)
        with closing(connect_redis(redis_url + options)) as client:
            assert inbox.Inbox(client).depth().events == 0


def test_a_server_that_is_gone_at_the_start_is_waited_for() -> None:
    require_usable_redis(f"redis://127.0.0.1:{free_port()}/0")


def test_every_process_ends_with_one_line(cluster_url: str, mirrored: Mirror, folder: Path) -> None:
    cli = Cli(folder, **{**mirrored.variables, "REDIS_URL": cluster_url})
    started = [cli.start(command, PORT=str(free_port())) for command in ("web", "worker", "clock")]
    for process in started:
        done = cli.finish(process)
        assert done.status == 2
        assert "REDIS_URL leads to a Redis Cluster" in done.err
        assert done.err.count("\n") == 1
    for command in (("pull",), ("verify",)):
        done = cli.run(*command)
        assert done.status == 2
        assert "REDIS_URL leads to a Redis Cluster" in done.err
    done = cli.run("doctor", "--json")
    (found,) = [row for row in done.document if row["check"] == "redis"]
    assert (done.status, found["ok"]) == (1, False)
    assert "Redis Cluster" in found["seen"]
    assert "Redis Cluster" in cli.run("status").out


def test_a_cluster_that_appears_later_loses_no_delivery(cluster_url: str, mirrored: Mirror) -> None:
    # As while Redis is unavailable: deliveries are stored in Postgres, and applied from there.
    settings = structs.replace(mirrored.settings, redis_url=cluster_url)
    model_id = new_id()
    body = event_body(model_id)
    answer = (
        create_app(settings)
        .test_client()
        .post(WEBHOOK_PATH, data=body, headers=signed(body, secret=settings.webhook_secrets[0]))
    )
    assert answer.status_code == 202
    with closing(redis.Redis.from_url(cluster_url)) as client:
        assert client.dbsize() == 0
    mirrored.settings = settings
    jobs.install(mirrored.another())
    jobs.drain_without_redis()
    assert mirrored.model(model_id)["id"] == model_id

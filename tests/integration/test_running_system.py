"""Commands without DATABASE_URL and REDIS_URL use the system that `up` runs in their folder, and only a running one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
import pytest

from service.config import Settings
from service.errors import LocalServerError
from service.local.running_system import SETTINGS_FILE, find_running_system, published
from service.local.servers.folder import locked
from tests.support.cli import Cli
from tests.support.heartbeats import insert_heartbeat
from tests.support.system import SECRET

if TYPE_CHECKING:
    from pathlib import Path

OLD = {"DATABASE_URL": "postgresql://old@127.0.0.1:9/old"}


@pytest.fixture
def home(folder: Path) -> Path:
    return folder / ".headshot-mirror"


@pytest.fixture
def lone_cli(folder: Path) -> Cli:
    """Commands in the folder, without any setting in the environment."""
    return Cli(folder, DATABASE_URL=None, REDIS_URL=None, HEADSHOTPRO_API_KEY=None, HEADSHOTPRO_WEBHOOK_SECRET=None)


def settings_of(database_url: str, redis_url: str, **more: str) -> dict[str, str]:
    given = {"database_url": database_url, "redis_url": redis_url, "headshotpro_webhook_secret": SECRET, **more}
    return Settings(**given).as_environment()  # type: ignore[arg-type] # all of these are texts


def test_commands_use_a_running_system_and_say_so(
    lone_cli: Cli, home: Path, database_url: str, redis_url: str, folder: Path
) -> None:
    insert_heartbeat(database_url)
    # The key of `.env` belongs to another system.
    (folder / ".env").write_text("HEADSHOTPRO_API_KEY=another\nEVENT_RETENTION_DAYS=0\n")
    running = home / "sandbox"
    with locked(running), published(running, settings_of(database_url, redis_url)):
        done = lone_cli.run("status")
        assert done.out.startswith("starting\n")
        assert (done.status, done.err) == (
            0, "headshot-mirror: using the system that runs in .headshot-mirror/sandbox\n",
        )  # fmt: skip
        for command in ("models list", "events list", "pulls list", "alerts list"):
            listed = lone_cli.run(*command.split(), "--json")
            assert (listed.status, listed.document, listed.err) == (0, [], done.err)
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "insert into headshotpro.pulls (kind, status, started_at, finished_at) "
                "values ('full', 'complete', now(), now())"
            )
        assert lone_cli.run("status").out.startswith("OK\n")
        with psycopg.connect(database_url) as connection:
            connection.execute("insert into headshotpro.alerts (kind, opened_at) values ('signatures_refused', now())")
        advice = {one["check"]: one["advice"] for one in lone_cli.run("doctor", "--json").document}
        assert advice["signatures_refused"].count("run `up` again") == 1
        assert advice["ALERT_URLS"].count("run `up` again") == 1
        pull = lone_cli.run("pull")
        assert (pull.status, "HEADSHOTPRO_API_KEY is missing" in pull.err) == (2, True)
        # A value in the environment of this command would reach neither it nor the processes that run.
        tried = lone_cli.run("alerts", "test", ALERT_URLS="json://127.0.0.1:9")
        assert (tried.status, "ALERT_URLS is missing" in tried.err, "run `up` again" in tried.err) == (2, True, True)
        assert (running / SETTINGS_FILE).stat().st_mode & 0o777 == 0o600
    assert not (running / SETTINGS_FILE).exists()


def test_one_server_in_the_environment_hides_a_running_system(
    lone_cli: Cli, home: Path, database_url: str, redis_url: str, folder: Path
) -> None:
    running = home / "sandbox"
    with locked(running), published(running, settings_of(database_url, redis_url)):
        assert "DATABASE_URL is missing" in lone_cli.run("status", REDIS_URL=redis_url).err
        assert "REDIS_URL is missing" in lone_cli.run("status", DATABASE_URL=database_url).err
        (folder / ".env").write_text("DATABASE_URL=postgresql://me@127.0.0.1:9/mine\n")
        assert "Postgres cannot be reached" in lone_cli.run("models", "list").err


def test_live_system_comes_before_a_sandbox(home: Path) -> None:
    live, sandbox = home / "live", home / "sandbox"
    with locked(live), locked(sandbox), published(sandbox, {"A": "1"}), published(live, {"A": "2"}):
        found = find_running_system(home)
        assert found == (live, {"A": "2"})
    with locked(sandbox), published(sandbox, {"A": "1"}):
        found = find_running_system(home)
        assert found == (sandbox, {"A": "1"})


def test_a_system_that_has_ended_is_not_used(lone_cli: Cli, home: Path) -> None:
    # A killed `up` leaves its file; its lock ends with it.
    with locked(home / "sandbox"):
        pass
    (home / "sandbox" / SETTINGS_FILE).write_text('{"DATABASE_URL": "postgresql://old@127.0.0.1:9/old"}')
    done = lone_cli.run("status")
    assert (done.status, done.out) == (2, "")
    assert "no `headshot-mirror up` runs in this folder" in done.err


def test_doctor_without_a_system_names_the_folder_as_the_cause(lone_cli: Cli) -> None:
    done = lone_cli.run("doctor")
    assert (done.status, done.err) == (1, "")
    found, advice = done.out.splitlines()
    assert found.startswith("BAD  system  ")
    assert "no `headshot-mirror up` runs in this folder, and DATABASE_URL and REDIS_URL are missing" in found
    assert "run this in the folder where it runs, or set DATABASE_URL and REDIS_URL" in advice
    assert [finding["check"] for finding in lone_cli.run("doctor", "--json").document] == ["system"]


def test_a_system_that_starts_is_named(lone_cli: Cli, home: Path) -> None:
    with locked(home / "live"):
        done = lone_cli.run("status")
    assert (done.status, done.out) == (1, "")
    assert ".headshot-mirror/live is starting or stopping" in done.err


def test_settings_that_others_may_have_written_are_refused(home: Path, folder: Path) -> None:
    running = home / "sandbox"
    with locked(running), published(running, OLD):
        path = running / SETTINGS_FILE
        path.chmod(0o640)
        with pytest.raises(LocalServerError, match="not a file that you alone can read"):
            find_running_system(home)
        path.unlink()
        elsewhere = folder / "elsewhere"
        elsewhere.write_text("{}")
        elsewhere.chmod(0o600)
        path.symlink_to(elsewhere)
        with pytest.raises(LocalServerError, match="it is a symbolic link"):
            find_running_system(home)
        path.unlink()
        os.mkfifo(path, 0o600)
        with pytest.raises(LocalServerError, match="not a file that you alone can read"):
            find_running_system(home)
        path.unlink()
        path.write_text("{")
        path.chmod(0o600)
        with pytest.raises(LocalServerError, match="is not JSON"):
            find_running_system(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_files_and_folders_of_another_user_are_refused(home: Path) -> None:
    running = home / "sandbox"
    with locked(running), published(running, OLD):
        os.chown(running / SETTINGS_FILE, 65534, 65534)
        with pytest.raises(LocalServerError, match="not a file that you alone can read"):
            find_running_system(home)
        os.chown(running / SETTINGS_FILE, 0, 0)
        for path in (running, home):
            os.chown(path, 65534, 65534)
            with pytest.raises(LocalServerError, match="belongs to"):
                find_running_system(home)
            os.chown(path, 0, 0)
        assert find_running_system(home) == (running, OLD)

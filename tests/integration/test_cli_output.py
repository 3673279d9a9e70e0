"""The streams of a command: output to a full disk, a pipe or an input that is closed."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from service.cli import commands
from service.config import environment

FULL = (
    "headshot-mirror: cannot write its output: No space left on device; make room there, or write it to another place\n"
)
NOWHERE = {"DATABASE_URL": "postgresql://127.0.0.1:9/d", "REDIS_URL": "redis://127.0.0.1:9/0"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", *arguments]


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("doctor",), ("--version",)])
@pytest.mark.parametrize("unbuffered", ["", pytest.param("1", marks=pytest.mark.long)])
def test_output_that_takes_nothing_ends_with_one_line(arguments: tuple[str, ...], unbuffered: str) -> None:
    env = environment(**NOWHERE, PYTHONUNBUFFERED=unbuffered)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (1, FULL)


def test_rows_that_no_output_takes_end_with_one_line(database_url: str) -> None:
    env = environment(DATABASE_URL=database_url, PYTHONUNBUFFERED="")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("models", "list", "--csv"), stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False
        )
    assert (done.returncode, done.stderr) == (1, FULL)


@pytest.mark.parametrize(
    ("named", "line"),
    [
        (("/data/file",), "an unexpected error; please report it:"),
        ((), "cannot write its output: it is full; make room there, or write it to another place"),
    ],
)
def test_full_disk_under_a_file_is_no_error_of_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: tuple[str, ...], line: str
) -> None:
    def fail(*_arguments: object, **_facts: object) -> None:
        # Python has no stream where the output was closed.
        monkeypatch.setattr(sys, "stdout", None)
        raise OSError(errno.ENOSPC, "it is full", *named)

    monkeypatch.setattr(commands.cli, "main", fail)
    with pytest.raises(SystemExit, match="1"):
        commands.run(["status"])
    assert capsys.readouterr().err.splitlines()[0] == f"headshot-mirror: {line}"


def test_reader_that_closes_the_pipe_gets_no_traceback() -> None:
    piped = subprocess.PIPE
    with subprocess.Popen(command("--help"), stdout=piped, stderr=piped, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert (running.stderr.read(), running.wait(30)) == ("", 1)


def test_reader_that_leaves_after_a_line_gets_no_error(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.models (id, title, status, observed_at, updated_at) "
            "select n, repeat('x', 1000), 'active', now(), now() from generate_series(1, 500) n"
        )
    listed, piped = command("models", "list", "--csv", "--limit", "500"), subprocess.PIPE
    env = environment(DATABASE_URL=database_url)
    with subprocess.Popen(listed, stdout=piped, stderr=piped, text=True, env=env) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline().startswith("id,")
        # A pipe holds 64 KB of its 500.
        running.stdout.close()
        assert (running.stderr.read(), running.wait(30)) == ("", 1)


def test_question_without_an_input_ends_the_command(database_url: str, redis_url: str) -> None:
    env = environment(DATABASE_URL=database_url, REDIS_URL=redis_url, HEADSHOTPRO_API_KEY="key")
    closed = ["sh", "-c", '"$@" <&-', "sh", *command("models", "delete", "abc")]
    done = subprocess.run(closed, capture_output=True, text=True, env=env, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Aborted!\n")

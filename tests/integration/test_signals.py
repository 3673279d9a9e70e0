"""SIGINT and SIGTERM to each command, from its start on: one line, the status of the signal, nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from signal import SIGINT, SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING

import psycopg
import pytest

from service.cli.models import UNKNOWN_OUTCOME
from service.cli.progress import NOTHING_CHANGED
from service.config import environment
from service.local.servers.process import free_port
from service.signal_handlers import EXIT_TIMEOUT_SECONDS, signals_held
from tests.support.cli import Cli
from tests.support.drainer import T0, minutes
from tests.support.odd_vendor import KEY, http, odd_vendor
from tests.support.processes import eventually, processes_in
from tests.support.system import NOWHERE, SECRET, event_body, new_id, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.drainer import Drainer
    from tests.support.mirror import Mirror, StartMirror

# Seconds from the start of a command. A later one finds it in its imports, while it opens its servers, or at work.
MOMENTS = (0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.1, 1.5)
# Of a command that has begun what it ends in order; a watch has the status of what it showed last.
IN_ORDER = {
    "pull": (1, "headshot-mirror: stopped; the workers go on with the pull from its last page"),
    "verify": (1, f"headshot-mirror: {NOTHING_CHANGED}"),
    "status --watch": (1,),
}
ORGANIZATION = {"success": True, "organization": {"uid": "org1", "name": "Acme"}}
SERVERS = {"HEADSHOTPRO_API_URL": NOWHERE, "HEADSHOTPRO_API_KEY": "key", "HEADSHOTPRO_WEBHOOK_SECRET": SECRET}


COMMON = ["web", "pull"]
OTHERS = ["status --watch", "worker", "clock", "up", "sandbox", "verify", "models list"]


@pytest.mark.parametrize("command", [*COMMON, *(pytest.param(other, marks=pytest.mark.long) for other in OTHERS)])
def test_signal_at_any_moment_ends_a_command_in_order(
    command: str, folder: Path, database_url: str, redis_url: str
) -> None:
    # `up` starts everything itself.
    given = {} if command == "up" else {"DATABASE_URL": database_url, "REDIS_URL": redis_url, **SERVERS}
    unset = dict.fromkeys(("DATABASE_URL", "REDIS_URL", *SERVERS))
    settings = environment(**{**unset, **given, "PORT": str(free_port()), "WEB_CONCURRENCY": "1"})
    for place, moment in enumerate(MOMENTS):
        # Held, because Python itself prints a traceback for SIGINT until it has read the first line of ours.
        with signals_held():
            process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", *command.split()],
                cwd=folder, env=settings, start_new_session=True, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        time.sleep(moment)
        number, ended = (SIGINT, SIGTERM)[place % 2], process.poll() is not None
        err = end(process, None if ended else number, folder)
        seen = (moment, process.returncode, err)
        lines = [line for line in err.splitlines() if line.startswith("headshot-mirror: ")]
        by_signal = (-number, f"headshot-mirror: stopped by {number.name}")
        assert ended or (process.returncode, *lines) in {by_signal, IN_ORDER.get(command, (0,)), (0,)}, seen


def end(process: subprocess.Popen[str], number: Signals | None, folder: Path) -> str:
    """Send a signal, and assert that the end leaves no traceback and no process: what was on stderr."""
    if number is not None:
        # SIGINT as a terminal sends it, to the command and its children.
        (os.killpg if number == SIGINT else os.kill)(process.pid, number)
    try:
        _, err = process.communicate(timeout=15)
    finally:
        left = {} if eventually(lambda: not processes_in(folder), 5) else processes_in(folder)
        for pid in left:
            os.kill(pid, SIGKILL)
    assert "Traceback" not in err, err
    assert not left, err
    return err


@pytest.mark.parametrize(
    ("begun", "moments"),
    [
        pytest.param("sandbox/postgres/data.new", (0, 0.4), marks=pytest.mark.long),
        # It migrates: this file is written once Postgres responds.
        pytest.param("sandbox/psql", (0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8), marks=pytest.mark.long),
        ("sandbox/sandbox.json", (0, 0.3)),
    ],
    ids=["initdb", "migration", "sandbox"],
)
def test_signal_during_the_first_start_of_up_ends_it(begun: str, moments: tuple[float, ...], folder: Path) -> None:
    unset = dict.fromkeys(("DATABASE_URL", "REDIS_URL", *SERVERS))
    settings = environment(**{**unset, "PORT": str(free_port()), "WEB_CONCURRENCY": "1"})
    for moment in moments:
        data, output = folder / ".headshot-mirror", folder / "output"
        with output.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "up"],
                cwd=folder, env=settings, start_new_session=True, text=True,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE,
            )  # fmt: skip
        assert eventually((data / begun).exists)
        time.sleep(moment)
        err = end(process, SIGINT, folder)
        assert (process.returncode, err) == (0, ""), moment
        assert output.read_text().endswith("Everything has ended.\n")
        shutil.rmtree(data)


@pytest.mark.parametrize("command", ["pull", pytest.param("verify", marks=pytest.mark.long)])
def test_two_signals_end_a_long_command_with_its_one_line(command: str, mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=1_000, slow=1)
    cli = Cli(folder, **here.variables)
    for moment, gap in ((0.0, 0.0), (0.2, 0.01), (0.5, 0.2)):
        process = cli.start(command)
        await_begin(here, process, command)
        time.sleep(moment)
        process.send_signal(SIGINT)
        time.sleep(gap)
        process.terminate()
        done = cli.finish(process)
        assert (done.status, done.out) == (1, "")
        assert done.err.splitlines() == [IN_ORDER[command][1]]
        if command == "pull":
            (row,) = here.sql("select leased_until <= now() as is_free from headshotpro.pull_checkpoints")
            assert row["is_free"], "another process has to wait for it"
            assert {row["outcome"] for row in here.sql("select outcome from headshotpro.audit_log")} == {"failed"}
    assert cli.leaks() == []


@pytest.mark.parametrize("responses", [pytest.param(0, marks=pytest.mark.long), 1], ids=["organization", "page"])
def test_signals_to_a_pull_that_waits_for_the_vendor_end_it(
    responses: int, folder: Path, database_url: str, redis_url: str
) -> None:
    with odd_vendor(b"") as vendor:
        vendor.script(*[http(200, ORGANIZATION)] * responses, vendor.hang)
        servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        cli = Cli(folder, **servers, HEADSHOTPRO_API_URL=vendor.url, HEADSHOTPRO_API_KEY=KEY)
        process = cli.start("pull")
        assert eventually(lambda: len(vendor.requests) > responses)
        began = time.monotonic()
        process.send_signal(SIGINT)
        time.sleep(0.2)
        process.terminate()
        done = cli.finish(process)
    assert time.monotonic() - began < EXIT_TIMEOUT_SECONDS, "the watchdog ended it"
    assert (done.status, done.err) == (1, f"{IN_ORDER['pull'][1]}\n")
    (lease,) = rows(database_url, "select leased_until <= now() as is_free from headshotpro.pull_checkpoints")
    assert lease["is_free"], "another process has to wait for it"
    assert [act["outcome"] for act in rows(database_url, "select outcome from headshotpro.audit_log")] == ["failed"]


@pytest.mark.parametrize("number", [SIGINT, pytest.param(SIGTERM, marks=pytest.mark.long)], ids=str)
def test_signal_during_an_erasure_records_it_as_unknown(
    number: Signals, folder: Path, database_url: str, redis_url: str, drainer: Drainer
) -> None:
    model_id = new_id()
    drainer.take(event_body(model_id, at=T0), event_body(model_id, "model.deleted", at=minutes(1)))
    cli = Cli(folder, DATABASE_URL=database_url, REDIS_URL=redis_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("select 1 from headshotpro.model_clocks where model_id = %s for update", [model_id])
        process = cli.start("models", "erase", model_id, "--yes")
        assert eventually(lambda: rows(database_url, "select 1 from headshotpro.audit_log where outcome = 'begun'"))
        process.send_signal(number)
        done = cli.finish(process)
    assert (done.status, done.err) == (-number, f"headshot-mirror: stopped by {number.name}\n")
    assert [act["outcome"] for act in rows(database_url, "select outcome from headshotpro.audit_log")] == ["unknown"]


def await_begin(here: Mirror, process: subprocess.Popen[str], command: str) -> None:
    """Wait until a command has begun its work."""
    if command == "pull":
        assert eventually(lambda: here.sql("select 1 from headshotpro.audit_log where outcome = 'begun'"))
    else:
        assert process.stderr is not None
        assert process.stderr.readline() == "Reading the upstream's list …\n"


def test_signals_during_a_deletion_leave_its_outcome(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=3)
    here.pull()
    here.set_switches(slow=2)
    (row, *_) = here.sql("select id from headshotpro.models")
    cli = Cli(folder, **here.variables)
    process = cli.start("models", "delete", row["id"], "--yes")
    assert eventually(lambda: here.sql("select 1 from headshotpro.audit_log where outcome = 'begun'"))
    process.send_signal(SIGINT)
    process.terminate()
    done = cli.finish(process)
    (act,) = here.sql("select outcome from headshotpro.audit_log where action = 'model.delete'")
    # They may come before the request is sent; one that was sent is waited for.
    stopped = (1, f"headshot-mirror: {NOTHING_CHANGED}\n")
    assert (done.status, done.err) == {"done": (0, ""), "unknown": stopped}[act["outcome"]]


# As after `EXIT_TIMEOUT_SECONDS`, at once.
ACT = """
import sys
from service import signal_handlers
from service.cli.commands import run
signal_handlers.EXIT_TIMEOUT_SECONDS = 0
run(sys.argv[1:])
"""
LOCK_WAITS = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.mark.parametrize("sent", [0, 1], ids=["row", "vendor"])
@pytest.mark.parametrize("act", ["delete m1 --yes", "create ada@example.com"])
def test_act_ended_while_it_waits_says_whether_it_was_sent(
    act: str, sent: int, folder: Path, database_url: str, redis_url: str
) -> None:
    with odd_vendor(b"") as vendor, psycopg.connect(database_url) as connection:
        vendor.script(vendor.hang)
        if not sent:
            connection.execute("lock table headshotpro.audit_log")
        servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "HEADSHOTPRO_API_KEY": KEY}
        settings = environment(**servers, HEADSHOTPRO_API_URL=vendor.url)
        command = [sys.executable, "-c", ACT, "models", *act.split()]
        process = subprocess.Popen(command, cwd=folder, env=settings, text=True, stderr=subprocess.PIPE)
        assert eventually(lambda: vendor.requests if sent else rows(database_url, LOCK_WAITS))
        process.send_signal(SIGINT)
        _, err = process.communicate(timeout=15)
        assert len(vendor.requests) == sent
    forced, last = err.splitlines()
    assert "shutdown.forced" in forced
    assert (process.returncode, last) == (1, f"headshot-mirror: {UNKNOWN_OUTCOME if sent else NOTHING_CHANGED}")

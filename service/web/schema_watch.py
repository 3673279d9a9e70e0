"""A schema known to be older than the code ends web, also where Postgres was gone at its start.

A process of its own looks until it has seen the schema, because a Postgres that hangs must not hold up gunicorn's
master. It is a fork of the master, so it imports nothing.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from time import sleep
from typing import TYPE_CHECKING, NoReturn

import gevent

from service.errors import PostgresUnavailable, SchemaOutdated
from service.parent_death import signal_on_parent_death
from service.storage.migrations import revision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

RETRY_SECONDS = 2.0
# A Postgres that is there shows its schema within this; web does not wait longer for one that hangs.
FIRST_CHECK_SECONDS = 1.0

CURRENT, UNKNOWN, OUTDATED = "fine", "later", "outdated"


class SchemaCheck:
    """gunicorn's master's side: starts the look, and ends with its outcome.

    Args:
        engine: of the database; nothing is connected yet.

    Raises:
        SchemaOutdated: the first look has shown that it is older than the code.
    """

    def __init__(self, engine: Engine) -> None:
        self._reports, reports = os.pipe()
        master = os.getpid()
        child = os.fork()
        if child == 0:
            _run_check(engine, master, reports)
        os.close(reports)
        outcome, reason = self._outcome(FIRST_CHECK_SECONDS)
        if outcome == OUTDATED:
            # Before it comes to ending this process, which takes a while to end by itself.
            os.kill(child, signal.SIGKILL)
        if outcome != UNKNOWN:
            os.waitpid(child, 0)
        if outcome == OUTDATED:
            raise SchemaOutdated(reason)
        if outcome == UNKNOWN:
            # A delivery does not need Postgres: Redis takes it, and it waits there.
            print(f"headshot-mirror: the schema could not be checked yet: {reason}", file=sys.stderr)  # noqa: T201

    def exit_if_outdated(self) -> None:
        """Let the exit status say why web ended.

        Raises:
            SystemExit: with status 1, when the schema is too old.
        """
        outcome, reason = self._outcome(0)
        if outcome == OUTDATED:
            print(reason, file=sys.stderr)  # noqa: T201 - one clear line, also where logs are JSON
            sys.exit(1)

    def _outcome(self, seconds: float) -> tuple[str, str]:
        """The newest report, after waiting this long for one."""
        if not select.select([self._reports], [], [], seconds)[0]:
            return UNKNOWN, f"no answer within {seconds:g} s"
        reports = os.read(self._reports, 65536).decode().splitlines() or [f"{UNKNOWN}\tthe look has ended"]
        outcome, _, reason = reports[-1].partition("\t")
        return outcome, reason


def _run_check(engine: Engine, master: int, reports: int) -> NoReturn:
    """Report until the schema was seen; this process ends here."""
    try:
        # Ctrl-C at the terminal is the master's to handle.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal_on_parent_death(master, signal.SIGTERM)
        gevent.reinit()
        for report in _reports(engine):
            os.write(reports, f"{report}\n".encode())
            if report.startswith(OUTDATED):
                # A master that waits for the first look ends by itself and this process with it: gunicorn, which will
                # take the signal, does not run there yet.
                sleep(RETRY_SECONDS)
                os.kill(master, signal.SIGTERM)
    finally:
        os._exit(0)


def _reports(engine: Engine) -> Iterator[str]:
    """The results of the checks; the last one is final, and `UNKNOWN` is reported once."""
    reported = False
    while True:
        try:
            revision.check(engine)
        except PostgresUnavailable as error:
            if not reported:
                yield f"{UNKNOWN}\t{error}"
            reported = True
            sleep(RETRY_SECONDS)
        except SchemaOutdated as error:
            yield f"{OUTDATED}\t{error}"
            return
        except Exception as error:  # noqa: BLE001 - such as a login that may not read the schema: /readyz reports it
            yield f"{UNKNOWN}\t{type(error).__name__}"
            return
        else:
            yield f"{CURRENT}\t"
            return

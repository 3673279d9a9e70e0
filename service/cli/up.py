"""`headshot-mirror up`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from typing import Any

import click

from service.config import load
from service.errors import SettingsError, Stopping
from service.signal_handlers import setter_for_handlers

EPILOG = """\b
Examples:
  headshot-mirror up
  headshot-mirror up -- --models 2000 --speed 10
"""


@click.command(epilog=EPILOG)
@click.option("--with-parent", is_flag=True, help="End when the process that started this one ends.")
@click.argument("sandbox_options", nargs=-1, type=click.UNPROCESSED)
def up(sandbox_options: tuple[str, ...], *, with_parent: bool) -> None:
    """Run the whole system on this machine until Ctrl-C.

    Starts Postgres and Redis where DATABASE_URL and REDIS_URL are not set, brings the schema up to date, and runs web,
    worker and clock. Without HEADSHOTPRO_API_KEY it starts a sandbox vendor too and mirrors that; arguments after
    `--` are the sandbox's options. Data and logs are kept in .headshot-mirror/sandbox or .headshot-mirror/live.
    """
    from service.alerts import receivers
    from service.local.screen import Screen
    from service.local.system import LocalSystem

    settings = load()
    receivers.from_settings(settings)
    if settings.headshotpro_api_key and sandbox_options:
        raise SettingsError("HEADSHOTPRO_API_KEY is set, so no sandbox runs that could take options")
    screen = Screen(sys.stdout)
    stop = _StopRequest()
    parent = os.getppid()
    try:
        with ExitStack() as stack:
            system = LocalSystem(settings, screen, stack)
            system.start(sandbox_options)
            stop.interrupts = False
            system.supervise(lambda seconds: stop.requested.wait(seconds) or (with_parent and os.getppid() != parent))
    except Exception:
        # Where the signal interrupts a library, that may raise an error of its own.
        if not stop.has_come:
            raise
    screen.say("Everything has ended.")


class _StopRequest:
    """The first signal to end; those that follow cannot disturb the ending.

    Attributes:
        interrupts: whether the signal raises `Stopping` wherever this process is. A start may wait for a server for
            long, so it is interrupted. Later nothing waits, and an error within any other code could end up as a
            traceback on the screen.
        has_come: whether the signal has come.
        requested: set by the signal, a moment later.
    """

    def __init__(self) -> None:
        self.interrupts = True
        self.has_come = False
        self.requested = threading.Event()
        self._set_requested = setter_for_handlers(self.requested)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A closed terminal ends it too, unless it was started with nohup.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._request)

    def _request(self, _number: int, _frame: Any) -> None:
        if not self.has_come:
            self.has_come = True
            self._set_requested()
            if self.interrupts:
                # SQLAlchemy logs a traceback where it cannot roll back what was interrupted.
                logging.disable()
                raise Stopping

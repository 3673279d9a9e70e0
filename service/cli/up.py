"""`headshot-mirror up`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack
from typing import Any

import click

from service.config import load
from service.errors import SettingsError, Stopping

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
    worker and clock. Without HEADSHOTPRO_API_KEY it starts a sandbox vendor too and mirrors that; what stands behind
    `--` are the sandbox's options. Data and logs are kept in .headshot-mirror/sandbox or .headshot-mirror/live.
    """
    from service.alerts import receivers
    from service.local.screen import Screen
    from service.local.system import LocalSystem

    settings = load()
    receivers.from_settings(settings)
    if settings.headshotpro_api_key and sandbox_options:
        raise SettingsError("HEADSHOTPRO_API_KEY is set, so there is no sandbox that could take options")
    screen = Screen(sys.stdout)
    stop_requested = _stop_on_signals()
    parent = os.getppid()
    try:
        with ExitStack() as stack:
            system = LocalSystem(settings, screen, stack)
            system.start(sandbox_options)
            system.supervise(lambda: stop_requested.is_set() or (with_parent and os.getppid() != parent))
    except Stopping:
        screen.say("Everything has ended.")


def _stop_on_signals() -> threading.Event:
    """Let the first signal raise `Stopping`, wherever we are, and set the event, in case a library swallows it.

    Those that follow cannot disturb the ending.
    """
    stop_requested = threading.Event()
    wanted = [signal.SIGINT, signal.SIGTERM]
    # A closed terminal ends it too, unless it was started with nohup.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        wanted.append(signal.SIGHUP)

    def stop(_number: int, _frame: Any) -> None:
        if not stop_requested.is_set():
            stop_requested.set()
            raise Stopping

    for number in wanted:
        signal.signal(number, stop)
    return stop_requested

"""`headshot-mirror web`, `worker` and `clock`: the three processes of the Procfile."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from service import __version__, config
from service.errors import SettingsError
from service.signal_handlers import signals_held


def _become_background_process(role: str) -> None:
    """Replace this process by another Python, so that signals reach it directly, once ALERT_URLS is checked."""
    from service.alerts import receivers

    receivers.from_settings(config.load())
    with signals_held():
        os.execv(sys.executable, [sys.executable, "-m", "workers", role])  # noqa: S606 - our own module


@click.command(epilog="Example: PORT=8000 headshot-mirror web")
def web() -> None:
    """Receive webhooks, serve API and console.

    It listens on $WEB_BIND:$PORT with $WEB_CONCURRENCY processes.
    """
    from service.web import REQUIRED_SETTINGS

    settings = config.load(REQUIRED_SETTINGS)
    receivers_check = None
    if settings.alert_urls:
        # In a process of its own: Apprise takes half a second and much memory, and goes with it.
        command = [sys.executable, "-m", "service.alerts.receivers"]
        receivers_check = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    import structlog

    from service.web import start

    prepared = start.prepare(settings)
    if receivers_check:
        _nothing, wrong = receivers_check.communicate()
        if receivers_check.returncode:
            raise SettingsError(wrong.strip().rpartition("\n")[2])
    from service import log

    log.configure(settings)
    structlog.get_logger(__name__).info(
        "web.starts", version=__version__, address=settings.web_url, processes=settings.web_concurrency
    )
    prepared.run()


@click.command(epilog="Example: headshot-mirror worker")
def worker() -> None:
    """Apply events, pull, ask the upstream.

    Any number may run, on any machine.
    """
    _become_background_process("worker")


@click.command(epilog="Example: headshot-mirror clock")
def clock() -> None:
    """Start due work, evaluate alerts, send notifications.

    It looks each second. Any number may run, and one acts.
    """
    _become_background_process("clock")

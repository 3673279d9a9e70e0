"""`headshot-mirror web`, `worker` and `clock`: the three processes of the Procfile."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from service import __version__, config
from service.errors import SettingsError
from service.signal_handlers import signals_held


def _check_receivers() -> subprocess.Popen[str]:
    """Check ALERT_URLS in a process of its own: Apprise takes half a second and much memory, and goes with it."""
    return subprocess.Popen([sys.executable, "-m", "service.alerts.receivers"], stderr=subprocess.PIPE, text=True)


def _require_receivers(check: subprocess.Popen[str]) -> None:
    """Wait for the end of the check.

    Raises:
        SettingsError: ALERT_URLS is malformed.
    """
    _nothing, wrong = check.communicate()
    if check.returncode:
        raise SettingsError(wrong.strip().rpartition("\n")[2])


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
    receivers_check = _check_receivers() if settings.alert_urls else None
    import structlog

    from service.web import start

    prepared = start.prepare(settings)
    if receivers_check:
        _require_receivers(receivers_check)
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

"""`headshot-mirror web`, `worker` and `clock`: the three processes of the Procfile."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from service import __version__, config
from service.errors import SettingsError

if TYPE_CHECKING:
    from service.config import Settings


class _ReceiversCheck:
    """Checks ALERT_URLS in a process of its own: Apprise takes half a second and much memory, and goes with it.

    Args:
        settings: those to check.
    """

    def __init__(self, settings: Settings) -> None:
        self._child = 0
        if not settings.alert_urls:
            return
        self._verdict, verdict = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _write_verdict(settings, verdict)
        os.close(verdict)

    def wait(self) -> None:
        """Wait for the verdict.

        Raises:
            SettingsError: ALERT_URLS is malformed.
        """
        if not self._child:
            return
        with os.fdopen(self._verdict, encoding="utf-8") as verdict:
            wrong = verdict.read()
        os.waitpid(self._child, 0)
        if wrong:
            raise SettingsError(wrong)


def _write_verdict(settings: Settings, verdict: int) -> NoReturn:
    """Write what is wrong with ALERT_URLS, nothing where it is fine; this process ends here."""
    from service.alerts import receivers

    try:
        receivers.from_settings(settings)
    except SettingsError as error:
        os.write(verdict, str(error).encode())
    except Exception as error:  # noqa: BLE001 - whatever Apprise has come upon
        os.write(verdict, f"ALERT_URLS cannot be checked: {type(error).__name__}".encode())
    finally:
        os._exit(0)


def _become(*arguments: str) -> None:
    """Replace this process by another Python, so that signals reach it directly."""
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - our own module


@click.command(epilog="Example: PORT=8000 headshot-mirror web")
def web() -> None:
    """Listen for webhooks on $WEB_BIND:$PORT with $WEB_CONCURRENCY processes."""
    from service.web import REQUIRED_SETTINGS

    settings = config.load(REQUIRED_SETTINGS)
    receivers_check = _ReceiversCheck(settings)
    import structlog

    from service.web import start

    prepared = start.prepare(settings)
    receivers_check.wait()
    from service import log

    log.configure(settings)
    structlog.get_logger(__name__).info(
        "web.starts", version=__version__, address=settings.web_url, processes=settings.web_concurrency
    )
    prepared.run()


@click.command(epilog="Example: headshot-mirror worker")
def worker() -> None:
    """Apply events, pull, ask the upstream: any number, on any machine."""
    _ReceiversCheck(config.load()).wait()
    _become("-m", "workers", "worker")


@click.command(epilog="Example: headshot-mirror clock")
def clock() -> None:
    """Ask for what is due, each second: any number may run, one acts."""
    _ReceiversCheck(config.load()).wait()
    _become("-m", "workers", "clock")

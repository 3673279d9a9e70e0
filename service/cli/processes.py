"""`headshot-mirror web`, `worker` and `clock`: the three processes of the Procfile."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from service import config

if TYPE_CHECKING:
    from service.config import Settings


def _check(settings: Settings) -> None:
    """Check what only a library can of the settings, for all three: Apprise, which that takes, goes with this process.

    Raises:
        SettingsError: ALERT_URLS or REDIS_URL is malformed, or there is no REDIS_URL.
    """
    from service import inbox
    from service.alerts import receivers

    receivers.of(settings)
    inbox.connect(settings.redis)


def _become(*arguments: str) -> None:
    """Replace this process by another Python, so that signals reach it and nothing stands between."""
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - our own module


@click.command(epilog="Example: PORT=8000 headshot-mirror web")
def web() -> None:
    """Listen for webhooks on $WEB_BIND:$PORT with $WEB_CONCURRENCY processes."""
    from service.errors import StorageUnavailable
    from service.storage import database, schema
    from service.web import NEEDS

    settings = config.load(NEEDS)
    _check(settings)
    engine = database.connect(settings.postgres_url, pool_size=1)
    try:
        schema.check(engine)
    except StorageUnavailable as error:
        # The door does not need Postgres: deliveries are taken and wait for it.
        click.echo(f"headshot-mirror: the schema could not be checked yet: {error}", err=True)
    engine.dispose()
    _become("-m", "gunicorn", "-c", "python:service.web.serving")


@click.command(epilog="Example: headshot-mirror worker")
def worker() -> None:
    """Apply events, pull, ask the upstream: any number, on any machine."""
    _check(config.load())
    _become("-m", "workers", "worker")


@click.command(epilog="Example: headshot-mirror clock")
def clock() -> None:
    """Ask for what is due, each second: any number may run, one acts."""
    _check(config.load())
    _become("-m", "workers", "clock")

"""What commands begin with: the mirror's database or a whole runtime, and the person who runs them.

An older schema ends them in one line.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from service import config
from service.cli.output import say
from service.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import Connection, Engine

    from service.config import Settings
    from service.local.running_system import RunningSystem
    from service.runtime import Runtime
    from service.status import StatusReader
    from service.storage.audit import Actor

# The settings of a command that calls the upstream.
REQUIRED_SETTINGS = ("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY")
SERVERS = ("DATABASE_URL", "REDIS_URL")
NO_SYSTEM = "no `headshot-mirror up` runs in this folder"
NO_SYSTEM_ADVICE = (
    "run this in the folder where it runs, or set DATABASE_URL and REDIS_URL in the environment or in .env"
)
_FOUND = f"{__name__}.found"


def load_settings(required: Collection[str] = ()) -> Settings:
    """The settings of a command that works beside the three processes.

    Without both servers in the environment and `.env`, these are the settings of the system that `up` runs in this
    folder, and no others: a key of `.env` would belong to another system.

    Args:
        required: names of settings that the command cannot do without.

    Raises:
        SettingsError: a setting is malformed, or one that is required is missing.
        LocalServerError: the folder of the system is not ours, or the system is still starting.
    """
    if config.is_any_given(SERVERS):
        return config.load(required)
    found = running_system()
    if found is not None:
        settings = config.load_alone(found.settings)
        for name in required:
            if getattr(settings, name.lower()) is None:
                # A value in this process's environment or `.env` would not reach the processes that run.
                raise SettingsError(f"{name} is missing: set it in the environment or in .env, and run `up` again")
        return settings
    if "DATABASE_URL" in required:
        raise SettingsError(f"DATABASE_URL is missing, and {NO_SYSTEM}: {NO_SYSTEM_ADVICE}")
    return config.load(required)


def running_system() -> RunningSystem | None:
    """The running system that a command uses; None where DATABASE_URL or REDIS_URL is set, or none runs here.

    A command searches for it once, and prints once which one it uses.
    """
    from service.local.running_system import find_running_system

    remembered = click.get_current_context().meta
    if _FOUND not in remembered:
        remembered[_FOUND] = found = None if config.is_any_given(SERVERS) else find_running_system()
        if found:
            say(f"headshot-mirror: using the system that runs in {found.folder}", err=True)
    running: RunningSystem | None = remembered[_FOUND]
    return running


def status_reader(settings: Settings) -> StatusReader:
    """Reads the state of the mirror whose settings `load_settings` gave."""
    from service.status import StatusReader

    found = running_system()
    return StatusReader(settings, found.local_up) if found else StatusReader(settings)


def open_engine() -> Engine:
    """The mirror's database.

    Raises:
        SettingsError: no database is set.
        SchemaOutdated: its schema is older than the code.
        PostgresUnavailable: Postgres cannot be reached.
    """
    from service.storage import database
    from service.storage.migrations import revision

    engine = database.connect(load_settings(("DATABASE_URL",)).postgres_url, pool_size=1)
    revision.check(engine)
    return engine


@contextmanager
def reading() -> Iterator[Connection]:
    """A transaction on the mirror's database; raises what `open_engine` raises."""
    from service.storage import database

    with database.transaction(open_engine()) as connection:
        yield connection


def open_runtime() -> Runtime:
    """Logs and connections of a command that talks to the upstream; raises what `open_engine` raises."""
    from service.runtime import Runtime
    from service.storage.migrations import revision

    settings = load_settings(REQUIRED_SETTINGS)
    configure_log(settings)
    runtime = Runtime.build(settings)
    revision.check(runtime.engine)
    return runtime


def configure_log(settings: Settings) -> None:
    """Logs of a command that a person runs: lines of text, from warnings on (LOG_LEVEL=debug shows all).

    Only where LOG_FORMAT is set and stderr is no terminal are they those of the three processes: a program reads them.
    """
    import msgspec

    from service import log

    if sys.stderr.isatty() or not config.is_any_given(("LOG_FORMAT",)):
        level = "warning" if settings.log_level == "info" else settings.log_level
        settings = msgspec.structs.replace(settings, log_format="console", log_level=level)
    log.configure(settings)


def current_actor() -> Actor:
    """The system user who runs a command (its number where it has no name), on this machine, for the audit log."""
    from service.storage.audit import COMMAND_LINE, Actor

    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = f"uid {number}"
    return Actor(name, COMMAND_LINE, socket.gethostname())

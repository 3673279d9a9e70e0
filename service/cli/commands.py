"""The commands of `headshot-mirror`, and how their errors end it."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from service import __version__
from service.cli.output import say
from service.errors import ClusterRefused, LocalServerError, MirrorError, SettingsError
from service.garbage import collect_rarely

# Command to the module that holds it: `--help` must not load servers and databases.
COMMANDS = {
    "up": "service.cli.up",
    "sandbox": "service.local.sandbox.command",
    "migrate": "service.cli.migrate",
    "restored": "service.cli.migrate",
    "web": "service.cli.processes",
    "worker": "service.cli.processes",
    "clock": "service.cli.processes",
    "pull": "service.cli.pull",
    "verify": "service.cli.verify",
    "pulls": "service.cli.pulls",
    "models": "service.cli.models",
    "events": "service.cli.events",
    "alerts": "service.cli.alerts",
    "webhook": "service.cli.webhook",
    "subscriptions": "service.cli.subscriptions",
    "status": "service.cli.status",
    "doctor": "service.cli.doctor",
    "accuracy": "service.cli.accuracy",
}
# Errors of a full disk, a device that fails, a descriptor that is closed: where a command's output goes. A pipe that
# its reader closed, as `head` does, is none of them: click ends the command without a word.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_CANNOT_WRITE = (*_NO_ROOM, errno.EFBIG, errno.EIO, errno.EBADF)


class Commands(click.Group):
    """The commands, each loaded when it is used, listed in the order of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Example: headshot-mirror up"
)
@click.version_option(__version__, prog_name="headshot-mirror")
def cli() -> None:
    """An exact, live mirror of your HeadshotPro models in Postgres.

    Settings come from the environment and from .env; docs/settings.md lists them.
    """
    from service.config import unknown_settings

    for one in unknown_settings():
        say(f"headshot-mirror: warning: {one}", err=True)


def run(arguments: list[str] | None = None) -> Any:
    """Run a command; every `MirrorError` becomes one line and an exit status (2: settings or usage, 1: the rest)."""
    if arguments is None:
        # It is the process's own command.
        collect_rarely()
        _escape_what_cannot_be_written()
    given = sys.argv[1:] if arguments is None else arguments
    if not all(_is_text(argument) for argument in given):
        _fail("an argument is not UTF-8: nothing in the mirror can have such a name", 2)
    try:
        cli.main(given, prog_name="headshot-mirror")
    except (SettingsError, ClusterRefused) as error:
        _fail(str(error), 2)
    except LocalServerError as error:
        # It may hold the end of a server's log.
        _fail(str(error), 1, lines=True)
    except MirrorError as error:
        _fail(str(error), 1)
    except Exception as error:  # noqa: BLE001 - a library's message may hold values of a row
        # One that names a file is not about the output.
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE and error.filename is None:
            _drop_output()
            remedy = "make room there, or write it" if error.errno in _NO_ROOM else "write it"
            _fail(f"cannot write its output: {error.strerror}; {remedy} to another place", 1)
        from service.log import format_without_messages

        _fail(f"an unexpected error; please report it:\n{format_without_messages(error)}", 1, lines=True)


def _drop_output() -> None:
    """Let Python's own flush at the end of the process succeed: it would print a traceback once more."""
    if sys.stdout is None:
        # It was closed when the process began.
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escape_what_cannot_be_written() -> None:
    """Print a character that the terminal's encoding lacks as its code, where Python would end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_text(argument: str) -> bool:
    """Whether an argument is UTF-8: of other bytes, Python makes surrogates that no server takes (PEP 383)."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fail(message: str, status: int, *, lines: bool = False) -> None:
    say(f"headshot-mirror: {message}", err=True, lines=lines)
    sys.exit(status)

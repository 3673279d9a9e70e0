"""The command line as a user has it: in a folder, with an environment; what it printed, and how it ended."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import chdir, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import click
from click.testing import CliRunner

from service.cli.commands import run
from service.config import SECRETS, environment
from service.parent_death import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Where no server listens.
NO_POSTGRES = "postgresql://somebody:hidden@127.0.0.1:9/nothing"
NO_REDIS = "redis://:hidden@127.0.0.1:9/0"
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")


class CommandResult(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document that it printed."""
        return json.loads(self.out)


@contextmanager
def _signal_handlers_restored() -> Iterator[None]:
    """Undo what a command does about signals to its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Cli:
    """Runs commands.

    Args:
        folder: where they run; it holds no `.env`.
        **settings: their environment; None removes a variable.
    """

    def __init__(self, folder: Path, **settings: str | None) -> None:
        self._folder = folder
        self._settings = {**{f"{name}_FILE": None for name in SECRETS}, **settings}
        self._printed: list[str] = []

    def run(self, *arguments: str, **settings: str | None) -> CommandResult:
        """Run a command to its end, with some settings changed; in this process, which spares a second of imports.

        `web` gets a process of its own: gevent patches the whole process that it runs in. So does, by `start`, a
        command whose log is looked at: in this process LOG_LEVEL changes little, and the test's own servers log, too.
        """
        if arguments[:1] == ("web",):
            return self.finish(self.start(*arguments, **settings))
        command = click.Command("headshot-mirror", callback=lambda: run(list(arguments)))
        with chdir(self._folder), _signal_handlers_restored():
            result = CliRunner(env={**self._settings, **settings}).invoke(command, [])
        assert isinstance(result.exception, SystemExit | None), result.exception
        self._printed += [result.stdout, result.stderr]
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    def start(self, *arguments: str, stderr: int = subprocess.PIPE, **settings: str | None) -> subprocess.Popen[str]:
        """Start a command as a process of its own, to signal it or to work beside it; `finish` waits for it."""
        return subprocess.Popen(
            die_with_parent([sys.executable, "-m", "service.cli", *arguments], signal.SIGTERM),
            cwd=self._folder,
            env=environment(**{**self._settings, **settings}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], seconds: float = 60) -> CommandResult:
        """Wait for the end of a command."""
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            process.kill()
        self._printed += [out, err or ""]
        return CommandResult(process.returncode, out, err or "")

    def leaks(self) -> list[str]:
        """Secrets and e-mail addresses in anything that was printed so far."""
        printed = "\n".join(self._printed)
        given = [value for name, value in self._settings.items() if name in SECRETS and value]
        passwords = [urlsplit(value).password for value in given]
        return [secret for secret in (*given, *passwords) if secret and secret in printed] + ADDRESS.findall(printed)


def one_line(done: CommandResult, status: int, *words: str) -> None:
    """Assert that a command ended with a status and one line that says why."""
    assert done.status == status, done
    assert done.out == ""
    assert len(done.err.splitlines()) == 1, done.err
    for word in ("headshot-mirror: ", *words):
        assert word in done.err


def assert_times(document: Any) -> None:
    """Assert that every time in a document is ISO 8601 with its zone, or null."""
    if isinstance(document, list):
        for part in document:
            assert_times(part)
    elif isinstance(document, dict):
        for name, value in document.items():
            if name.endswith("_at") and value is not None:
                assert datetime.fromisoformat(value).utcoffset() == timedelta(0)

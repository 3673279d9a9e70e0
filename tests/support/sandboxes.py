"""Sandboxes for tests: a process serves one test after another, and begins anew in between."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import urllib3

from service.parent_death import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

# Options that only a new process can take.
OF_A_PROCESS = frozenset({"host", "port", "state", "with_parent"})
# The options of a sandbox between two tests: it does nothing.
IDLE = {"models": 0, "quiet": True}


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox vendor.

    Attributes:
        url: base of its API, for HEADSHOTPRO_API_URL.
        api_key: its bearer key.
        webhook_secret: what it signs webhooks with.
        control_url: base of the switches that tests turn.
        process: it.
    """

    url: str
    api_key: str
    webhook_secret: str
    control_url: str
    process: subprocess.Popen[str]

    def reset(self, options: dict[str, Any]) -> Sandbox:
        """The same process with other models, another key and secret, and nothing left of before.

        Raises:
            urllib3.exceptions.HTTPError: it does not answer.
        """
        answer = urllib3.request("POST", f"{self.control_url}/reset", json=options, timeout=10, retries=False)
        assert answer.status == 201, answer.data
        return replace(self, **answer.json())

    def end(self) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


StartSandbox = Callable[..., Sandbox]


class Sandboxes:
    """The sandboxes of one test process."""

    def __init__(self) -> None:
        self._idle: list[Sandbox] = []

    def take(self, options: dict[str, Any]) -> Sandbox:
        """A sandbox with options named as on its command line, new or begun anew."""
        if OF_A_PROCESS & options.keys():
            return start(options)
        given = {name: value for name, value in options.items() if value is not None}
        if given.pop("no_whitelabel", False):
            given["whitelabel"] = False
        while self._idle:
            # One that was killed by its test, or by a machine without memory, is left behind.
            with suppress(urllib3.exceptions.HTTPError):
                return self._idle.pop().reset(given)
        return start(IDLE).reset(given)

    def release(self, sandbox: Sandbox, options: dict[str, Any]) -> None:
        """The test is over: keep the process for the next one, unless it has ended, hangs or was made for this test."""
        if not OF_A_PROCESS & options.keys() and sandbox.process.poll() is None:
            try:
                self._idle.append(sandbox.reset(IDLE))
            except urllib3.exceptions.HTTPError:
                pass
            else:
                return
        sandbox.end()

    def close(self) -> None:
        """End all of them."""
        for sandbox in self._idle:
            sandbox.end()


def start(options: dict[str, Any]) -> Sandbox:
    """A new process, with options named as on its command line; it ends with this process at the latest."""
    command = [sys.executable, "-m", "service.local.sandbox", "--port", "0", *_as_arguments(options)]
    process = subprocess.Popen(die_with_parent(command, SIGTERM), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the sandbox ended with {process.wait()} before it said where it listens"
    told = json.loads(line)
    control = told["url"].removesuffix("/api/v2") + "/_sandbox"
    return Sandbox(told["url"], told["api_key"], told["webhook_secret"], control, process)


def _as_arguments(options: dict[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if value is False or value is None:
            continue
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield str(value)

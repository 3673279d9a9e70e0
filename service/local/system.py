"""The system that `up` runs on this machine: servers, sandbox, migration, web, worker and clock."""

from __future__ import annotations

import json
import shlex
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from service.config import environment, force_wheels, load
from service.errors import EmbeddedError, Stopping
from service.local.children import Child, Watch, end_all
from service.local.screen import Gauge
from service.local.servers import Postgres, Valkey, is_free, locked, make_folder, write_private
from service.storage.migrations.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from service.config import Settings
    from service.local.children import Process
    from service.local.screen import Screen

HOME = Path(".headshot-mirror")
# Seconds; with those of Postgres and Valkey they stay under ten.
CHILDREN_PATIENCE = 4.0
SANDBOX_PATIENCE = 1.5
SANDBOX_START = 30.0
STATUS_EVERY = 1.0
PORTS_TRIED = 100

WEBHOOKS = "/webhooks/headshotpro"
QUERY = "select status, count(*) from headshotpro.models group by status"


class System:
    """Everything that `up` runs.

    Args:
        settings: those that the user gave.
        screen: where people are told.
        stack: ends what was started, last first, when it is closed.
    """

    def __init__(self, settings: Settings, screen: Screen, stack: ExitStack) -> None:
        self._given = settings
        self._screen = screen
        self._stack = stack
        live = settings.headshotpro_api_key is not None
        self._folder = (HOME / ("live" if live else "sandbox")).absolute()
        self._told: dict[str, str] = {}
        self._watches: list[Watch] = []

    def start(self, sandbox_options: tuple[str, ...]) -> None:
        """Start servers, vendor and processes, in the order in which they need each other.

        Raises:
            EmbeddedError: something could not be started.
            StorageUnavailable: the Postgres of DATABASE_URL cannot be reached.
        """
        self._screen.say(f"Starting; data and logs are in {_short(self._folder)}")
        make_folder(self._folder.parent)
        self._stack.enter_context(locked(self._folder))
        psql = self._start_postgres()
        self._start_redis()
        migrate(self._settings().postgres_url, self._screen.say)
        if self._given.headshotpro_api_key is None:
            self._start_sandbox(sandbox_options)
        else:
            self._use_real_vendor()
        self._start_processes()
        self._screen.row("logs", str(_short(self._folder / "*.log")))
        self._screen.row("query", f"{psql} -c {shlex.quote(QUERY)}")

    def look_after(self, is_over: Callable[[], bool]) -> None:
        """Show the mirror moving and start again what dies, each second.

        Args:
            is_over: asked each time; whether to end.

        Raises:
            Stopping: it is, or a signal came.
        """
        gauge = self._stack.enter_context(Gauge(self._settings()))
        self._stack.callback(self._screen.say, "Stopping …")
        while not is_over():
            for watch in self._watches:
                line = watch.look(time.monotonic())
                if line:
                    self._screen.say(line)
            self._screen.status(gauge.line())
            time.sleep(STATUS_EVERY)
        raise Stopping

    def _settings(self) -> Settings:
        """The settings as the children will see them."""
        return load(environ=self._environment())

    def _environment(self) -> dict[str, str]:
        # A value of ours must not meet a NAME_FILE of the user's: both together are an error.
        files = {f"{name}_FILE": None for name in self._told}
        return environment(**self._told, **files)

    def _start_postgres(self) -> str:
        """Start Postgres unless there is one; the command line that opens it."""
        if self._given.database_url:
            self._screen.row("Postgres", "that of DATABASE_URL")
            return 'psql "$DATABASE_URL"'
        server = Postgres.start(self._folder / "postgres", force_wheels=force_wheels())
        self._watch("Postgres", self._stack.enter_context(server))
        self._told["DATABASE_URL"] = server.url
        self._screen.row("Postgres", f"{server.name}, {server.url_without_password}")
        script = self._folder / "psql"
        write_private(script, f'#!/bin/sh\nexec {server.psql} "$@"\n')
        script.chmod(0o700)
        return shlex.quote(str(script))

    def _start_redis(self) -> None:
        if self._given.redis_url:
            self._screen.row("Redis", "that of REDIS_URL")
            return
        server = Valkey.start(self._folder / "valkey", force_wheels=force_wheels())
        self._watch("Redis", self._stack.enter_context(server))
        self._told["REDIS_URL"] = server.url
        self._screen.row("Redis", f"{server.name} on 127.0.0.1:{server.port}")

    def _find_port(self, name: str, wanted: int, *, address: str) -> int:
        """The wanted port, or the next one that is free; a change is told."""
        ports = range(wanted, min(wanted + PORTS_TRIED, 65536))
        port = next((port for port in ports if is_free(port, address)), None)
        if port is None:
            raise EmbeddedError(f"no port from {wanted} on is free for {name}: set PORT to another")
        if port != wanted:
            self._screen.say(f"Port {wanted} is taken: {name} uses {port}.")
        return port

    def _use_real_vendor(self) -> None:
        given = self._given
        self._screen.row("vendor", given.headshotpro_api_url)
        port = self._choose_web_port()
        if given.headshotpro_webhook_secret is None:
            closed = "without HEADSHOTPRO_WEBHOOK_SECRET its webhook endpoint is closed, so the mirror only pulls"
            self._screen.row("web", f"port {port}; {closed}")
            return
        public = (given.public_url or "https://<where the vendor reaches this port>").rstrip("/")
        self._screen.row("web", f"port {port}; webhook URL for HeadshotPro's admin pages: {public}{WEBHOOKS}")
        if ip_address(self._told["WEB_BIND"]).is_loopback:
            self._screen.row("", "only this machine reaches it: put a proxy in front, or set WEB_BIND=0.0.0.0")

    def _start_sandbox(self, options: tuple[str, ...]) -> None:
        web = self._choose_web_port()
        webhooks = f"http://127.0.0.1:{web}{WEBHOOKS}"
        port = self._find_port("the sandbox", web + 1, address="127.0.0.1")
        state = str(self._folder / "sandbox.state")
        fixed = ("--port", str(port), "--state", state, "--webhook-url", webhooks)
        child = self._child("sandbox", "-m", "service.local.sandbox", *fixed, *options)
        self._stack.callback(end_all, [child], SANDBOX_PATIENCE)
        self._watch("sandbox", child.boot())
        told = _announcement(child)
        write_private(self._folder / "sandbox.json", json.dumps(told, indent=2) + "\n")
        self._told["HEADSHOTPRO_API_URL"] = told["url"]
        self._told["HEADSHOTPRO_API_KEY"] = told["api_key"]
        # A secret of the user's own stays good for deliveries that they sign themselves.
        self._told["HEADSHOTPRO_WEBHOOK_SECRET"] = ",".join((told["webhook_secret"], *self._given.webhook_secrets))
        self._screen.row("sandbox", f"{told['url']}, key {told['api_key']}")
        self._screen.row("", f"its webhook secret is in {_short(self._folder / 'sandbox.json')}")
        self._screen.row("web", webhooks)

    def _choose_web_port(self) -> int:
        # People try `up` on their own machines: nobody else needs to reach it there.
        address = self._given.web_address if self._given.web_bind else "127.0.0.1"
        port = self._find_port("web", self._given.port, address=address)
        self._told |= {"PORT": str(port), "WEB_BIND": address}
        return port

    def _start_processes(self) -> None:
        # In this order they get their SIGTERM.
        roles = ("web", "clock", "worker")
        children = {role: self._child(role, "-m", "service.cli", role) for role in roles}
        self._stack.callback(end_all, children.values(), CHILDREN_PATIENCE)
        for role, child in children.items():
            self._watch(role, child.boot())
        self._screen.row("processes", ", ".join(roles))

    def _child(self, name: str, *arguments: str) -> Child:
        return Child([sys.executable, *arguments], self._environment(), self._folder / f"{name}.log")

    def _watch(self, name: str, process: Process) -> None:
        self._watches.append(Watch(name, process, time.monotonic()))


def _announcement(sandbox: Child) -> dict[str, str]:
    """What the sandbox says first: its url, api_key and webhook_secret."""
    deadline = time.monotonic() + SANDBOX_START
    while time.monotonic() < deadline:
        for line in sandbox.output().splitlines():
            if line.startswith(b'{"url"') and line.endswith(b"}"):
                told: dict[str, str] = json.loads(line)
                return told
        if sandbox.pid is None:
            break
        time.sleep(0.05)
    said = sandbox.output().decode(errors="replace").strip()
    raise EmbeddedError(f"the sandbox did not start: {said or 'it said nothing'}")


def _short(path: Path) -> Path:
    """The path as seen from the working directory, where it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

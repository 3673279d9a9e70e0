"""The system that `up` runs on this machine: servers, sandbox, migration, web, worker and clock.

Why: `docs/decisions/0037-less-machinery-to-run-here.md`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from service import __version__
from service.config import environment, force_wheels, load
from service.diagnosis import check_upstream
from service.errors import LocalServerError
from service.local.children import ManagedProcess, stop_all
from service.local.gauge import INTERVAL_SECONDS, Gauge
from service.local.running_system import HOME, SETTINGS_FILE, RunningSystem, published
from service.local.servers import Postgres, Valkey
from service.local.servers.folder import locked, log_tail, make_folder, read_or_make_secret, write_private
from service.local.servers.process import is_port_free
from service.storage.migrations.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from service.config import Settings
    from service.local.screen import Screen

# Seconds; with those of Postgres and Valkey it takes under four. A process that is killed then loses nothing: events
# stay in the inbox until they are applied, and pulls go on from their checkpoint.
CHILDREN_STOP_SECONDS = 2.5
SANDBOX_STOP_SECONDS = 1.5
SANDBOX_START_SECONDS = 30.0
PORTS_TRIED = 100

WEBHOOKS = "/webhooks/headshotpro"
QUERY = "select status, count(*) from headshotpro.models group by status"


class LocalSystem:
    """Everything that `up` runs.

    Args:
        stack: ends what was started, last first, when it is closed.
    """

    def __init__(self, settings: Settings, screen: Screen, stack: ExitStack) -> None:
        self._given = settings
        self._screen = screen
        self._stack = stack
        live = settings.headshotpro_api_key is not None
        self._folder = (HOME / ("live" if live else "sandbox")).absolute()
        self._derived_settings: dict[str, str] = {}
        self._processes: dict[str, ManagedProcess | Postgres | Valkey] = {}
        self._ended: set[str] = set()
        self._sandbox: ManagedProcess | None = None
        self._vendor_problems: SimpleQueue[str] = SimpleQueue()

    def start(self, sandbox_options: tuple[str, ...]) -> None:
        """Start servers, vendor and processes, in the order in which they need each other.

        Raises:
            LocalServerError: something could not be started.
            PostgresUnavailable: the Postgres of DATABASE_URL cannot be reached.
            SchemaUnreleased: the database was made before the first release.
        """
        self._screen.say(f"Starting headshot-mirror {__version__}; data and logs are in {_short(self._folder)}")
        make_folder(self._folder.parent)
        self._stack.enter_context(locked(self._folder))
        # Of a system that was killed.
        (self._folder / SETTINGS_FILE).unlink(missing_ok=True)
        self._choose_web_port()
        if self._given.headshotpro_api_key is None:
            # It starts while Postgres does.
            self._boot_sandbox(sandbox_options)
        psql = self._start_postgres()
        self._start_redis()
        migrate(self._settings().postgres_url, self._screen.say)
        if self._sandbox:
            self._await_sandbox(self._sandbox)
        else:
            self._use_real_vendor()
        self._show_console()
        self._show_api()
        self._start_processes()
        self._screen.row("logs", str(_short(self._folder / "*.log")))
        self._screen.row("query", f"{psql} -c {shlex.quote(QUERY)}")
        self._stack.enter_context(published(self._folder, self._settings().as_environment()))
        self._screen.row("commands", f"{command_line()} status, in this folder; --help lists the others")
        if self._sandbox:
            self._screen.row("reset", f"rm -r {_short(self._folder)}, after Ctrl-C; the demo then begins anew")

    def supervise(self, wait: Callable[[float], bool]) -> None:
        """Show the mirror moving, and which process has ended, each second, until `wait` returns that it is over."""
        system = RunningSystem(_short(self._folder), self._settings().as_environment())
        status_line = self._stack.enter_context(Gauge(self._settings(), system.local_up))
        self._stack.callback(self._screen.say, "Stopping …")
        self._stack.enter_context(self._screen)
        while True:
            while not self._vendor_problems.empty():
                self._screen.say(self._vendor_problems.get())
            for name, process in self._processes.items():
                if process.pid is None and name not in self._ended:
                    self._ended.add(name)
                    last = (log_tail(process.log).splitlines() or ["nothing"])[-1]
                    self._screen.say(
                        f"{name} ended ({process.note_end()}): press Ctrl-C, and start again. "
                        f"The last line of its log before: {last}"
                    )
            states = {name: "ended" if name in self._ended else "runs" for name in self._processes}
            self._screen.show(status_line.latest, states)
            if wait(INTERVAL_SECONDS):
                return

    def _settings(self) -> Settings:
        """The settings as the children will see them."""
        return load(environ=self._environment())

    def _environment(self) -> dict[str, str]:
        # A derived value and a NAME_FILE of the user's for the same setting would be an error.
        files = {f"{name}_FILE": None for name in self._derived_settings}
        servers = [name.lower() for name, server in self._processes.items() if isinstance(server, Postgres | Valkey)]
        run_by_up = os.pathsep.join([str(_short(self._folder)), *servers])
        return environment(**self._derived_settings, **files, RUN_BY_UP=run_by_up)

    def _start_postgres(self) -> str:
        """Start Postgres unless one is given; the command line that opens it."""
        if self._given.database_url:
            self._screen.row("Postgres", "that of DATABASE_URL")
            return 'psql "$DATABASE_URL"'
        server = Postgres.start(self._folder / "postgres", force_wheels=force_wheels())
        self._processes["Postgres"] = self._stack.enter_context(server)
        self._derived_settings["DATABASE_URL"] = server.url
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
        self._processes["Redis"] = self._stack.enter_context(server)
        self._derived_settings["REDIS_URL"] = server.url
        self._screen.row("Redis", f"{server.name} on 127.0.0.1:{server.port}")

    def _find_port(self, name: str, wanted: int, *, address: str) -> int:
        """The wanted port, or the next one that is free; a change is shown."""
        ports = range(wanted, min(wanted + PORTS_TRIED, 65536))
        port = next((port for port in ports if is_port_free(port, address)), None)
        if port is None:
            raise LocalServerError(f"no port from {wanted} on is free for {name}: set PORT to another")
        if port != wanted:
            self._screen.say(f"Port {wanted} is taken: {name} uses {port}.")
        return port

    def _use_real_vendor(self) -> None:
        given = self._given
        self._screen.row("vendor", given.headshotpro_api_url)
        # Nothing waits for an upstream that does not respond.
        Thread(target=try_vendor, args=(given, self._vendor_problems), name="vendor-check", daemon=True).start()
        port = self._derived_settings["PORT"]
        if given.headshotpro_webhook_secret is None:
            closed = "without HEADSHOTPRO_WEBHOOK_SECRET its webhook endpoint is closed, so the mirror only pulls"
            self._screen.row("web", f"port {port}; {closed}")
            return
        public = (given.public_url or "https://<where the vendor reaches this port>").rstrip("/")
        self._screen.row("web", f"port {port}; webhook URL for HeadshotPro's admin pages: {public}{WEBHOOKS}")
        if ip_address(self._derived_settings["WEB_BIND"]).is_loopback:
            self._screen.row("", "only this machine reaches it: put a proxy in front, or set WEB_BIND=0.0.0.0")

    def _boot_sandbox(self, options: tuple[str, ...]) -> None:
        port = self._find_port("the sandbox", int(self._derived_settings["PORT"]) + 1, address="127.0.0.1")
        state = str(self._folder / "sandbox.state")
        fixed = ("--port", str(port), "--state", state, "--webhook-url", f"{self._web_url()}{WEBHOOKS}")
        child = self._child("sandbox", "-m", "service.local.sandbox", *fixed, *options)
        self._stack.callback(stop_all, [child], SANDBOX_STOP_SECONDS)
        self._processes["sandbox"] = self._sandbox = child.boot()

    def _await_sandbox(self, child: ManagedProcess) -> None:
        announced = _read_announcement(child)
        write_private(self._folder / "sandbox.json", json.dumps(announced, indent=2) + "\n")
        self._derived_settings["HEADSHOTPRO_API_URL"] = announced["url"]
        self._derived_settings["HEADSHOTPRO_API_KEY"] = announced["api_key"]
        # A secret of the user's own stays good for deliveries that they sign themselves.
        self._derived_settings["HEADSHOTPRO_WEBHOOK_SECRET"] = ",".join(
            (announced["webhook_secret"], *self._given.webhook_secrets)
        )
        self._screen.row("sandbox", f"{announced['url']}, key {announced['api_key']}")
        self._screen.row("", f"its webhook secret is in {_short(self._folder / 'sandbox.json')}")
        self._screen.row("web", f"{self._web_url()}{WEBHOOKS}, where the sandbox sends its webhooks")

    def _show_console(self) -> None:
        """Show the console's address; the sandbox's mirror has a password for it, unless the user set a login."""
        if self._given.is_console_on:
            login = "with the login of your CONSOLE_ settings"
        elif self._sandbox:
            password = read_or_make_secret(self._folder / "demo-console-password")
            self._derived_settings["CONSOLE_PASSWORD"] = password
            login = f"password {password}"
        else:
            self._screen.row("console", "off: set CONSOLE_PASSWORD to open it")
            return
        self._screen.row("console", f"{self._web_url()}/console/, {login}")

    def _show_api(self) -> None:
        """Show a request of the API; the sandbox's mirror has a key for it, unless the user gave some."""
        if self._given.mirror_api_keys:
            key = "$KEY"
        elif self._sandbox:
            key = read_or_make_secret(self._folder / "demo-api-key")
            self._derived_settings["MIRROR_API_KEYS"] = f"demo={key}"
        else:
            self._screen.row("API", "closed: set MIRROR_API_KEYS to open it")
            return
        named = "one of MIRROR_API_KEYS as $KEY" if key == "$KEY" else f"key {key}"
        self._screen.row("API", f"{self._web_url()}/api/v2, {named}")
        url = f"{self._web_url()}/api/v2/organization/models?limit=3"
        self._screen.row("request", f'curl -s -H "Authorization: Bearer {key}" "{url}"')

    def _web_url(self) -> str:
        """The URL by which this machine reaches web."""
        address = ip_address(self._derived_settings["WEB_BIND"])
        if address.is_unspecified:
            address = ip_address("127.0.0.1" if address.version == 4 else "::1")
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"http://{host}:{self._derived_settings['PORT']}"

    def _choose_web_port(self) -> None:
        # People try `up` on their own machines: no other machine needs to reach it there.
        address = self._given.web_address if self._given.web_bind else "127.0.0.1"
        port = self._find_port("web", self._given.port, address=address)
        self._derived_settings |= {"PORT": str(port), "WEB_BIND": address}

    def _start_processes(self) -> None:
        # In this order they get their SIGTERM.
        roles = ("web", "clock", "worker")
        children = {role: self._child(role, "-m", "service.cli", role) for role in roles}
        # Together with the sandbox, whose connections web would wait for.
        self._stack.callback(stop_all, [*children.values(), *filter(None, [self._sandbox])], CHILDREN_STOP_SECONDS)
        for role, child in children.items():
            self._processes[role] = child.boot()
        self._screen.row("processes", ", ".join(roles))

    def _child(self, name: str, *arguments: str) -> ManagedProcess:
        return ManagedProcess([sys.executable, *arguments], self._environment(), self._folder / f"{name}.log")


def try_vendor(settings: Settings, problems: SimpleQueue[str]) -> None:
    """Send one request to the upstream: a wrong URL or key is on the screen before the next pull is due."""
    for finding in check_upstream(settings):
        if not finding.ok:
            problems.put(f"{finding.check}: {finding.seen}")
            problems.put(f"  → {finding.advice}")


def command_line() -> str:
    """The command that starts this program, as a person types it in a shell in this folder."""
    program = Path(sys.executable).with_name("headshot-mirror")
    if not program.exists():
        return f"{shlex.quote(sys.executable)} -m service.cli"
    on_path = shutil.which(program.name)
    return program.name if on_path and Path(on_path) == program else shlex.quote(str(_short(program)))


def _read_announcement(sandbox: ManagedProcess) -> dict[str, str]:
    """The first line of the sandbox: its url, api_key and webhook_secret."""
    deadline = time.monotonic() + SANDBOX_START_SECONDS
    while time.monotonic() < deadline:
        for line in sandbox.output().splitlines():
            if line.startswith(b'{"url"') and line.endswith(b"}"):
                announced: dict[str, str] = json.loads(line)
                return announced
        if sandbox.pid is None:
            break
        time.sleep(0.05)
    output = sandbox.output().decode(errors="replace").strip()
    raise LocalServerError(f"the sandbox did not start: {output or 'it printed nothing'}")


def _short(path: Path) -> Path:
    """The path relative to the working directory, where it is below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

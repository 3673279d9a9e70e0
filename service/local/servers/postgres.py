"""PostgreSQL on this machine: a cluster in a folder, open to 127.0.0.1 alone, with a password."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from signal import SIGINT, SIGKILL, SIGQUIT
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import quote

import psycopg

from service.errors import LocalServerError
from service.local.servers.binaries import find_postgres
from service.local.servers.folder import ServerFolder, write_private
from service.local.servers.privilege import drop_root, give_to_nobody
from service.local.servers.process import ADDRESS, Server
from service.parent_death import die_with_parent

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.servers.binaries import Binary

USER = DATABASE = "headshotpro"
BUILTIN_LOCALES_SINCE = 17

SETTINGS = {
    "listen_addresses": ADDRESS,
    # No socket files: their paths may be 107 bytes long at most, and a data folder may lie deep.
    "unix_socket_directories": "",
    "max_connections": "200",
    "log_connections": "off",
}


class Postgres(Server):
    """A PostgreSQL server with one database and one user of that name, `headshotpro`; see `Server`."""

    # Fast shutdown, then immediate shutdown.
    stop_signals: ClassVar = ((SIGINT, 2.0), (SIGQUIT, 1.0))

    def __init__(self, folder: ServerFolder, binary: Binary) -> None:
        super().__init__(folder, binary)
        self._prefix = drop_root()

    @classmethod
    def start(cls, folder: Path, *, force_wheels: bool = False) -> Self:
        """Start the server of a folder, with the database `headshotpro` in it.

        Args:
            folder: made when it is not there.
            force_wheels: never use a PostgreSQL that is installed on the machine.

        Raises:
            LocalServerError: it cannot be started; the message says why and what to do.
        """
        place = ServerFolder(folder)
        version = place.data / "PG_VERSION"
        made_by = version.read_text(encoding="ascii").strip() if version.exists() else None
        return cls(place, find_postgres(made_by, force_wheels=force_wheels)).boot()

    def boot(self) -> Self:
        """Start it, see `Server.boot`, and make the database where it is missing."""
        super().boot()
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            there = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
            if there is None:
                connection.execute(f'create database "{DATABASE}"')
        return self

    @property
    def name(self) -> str:
        return f"PostgreSQL {self.binary.major} ({self.binary.flavour})"

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of another database of this server, password included."""
        return f"postgresql://{USER}:{self.folder.password}@{ADDRESS}:{self.port}/{database}"

    @property
    def url_without_password(self) -> str:
        """A URL to show: libpq and psycopg read the password from the file that it names."""
        passfile = quote(str(self.folder.path / "pgpass"), safe="/")
        return f"postgresql://{USER}@{ADDRESS}:{self.port}/{DATABASE}?passfile={passfile}"

    @property
    def psql(self) -> str:
        """A command line that opens the database, without a password in it."""
        program = self.binary.program.with_name("psql")
        return f"{shlex.quote(str(program))} {shlex.quote(self.url_without_password)}"

    def _prepare(self) -> None:
        write_private(self.folder.path / "pgpass", f"{ADDRESS}:*:*:{USER}:{self.folder.password}\n")
        give_to_nobody(self.folder.data)
        if self.folder.data.exists():
            # We hold the folder's lock, so no server runs: a crash left it, and its number may be another's now.
            (self.folder.data / "postmaster.pid").unlink(missing_ok=True)
        else:
            self._make_data()

    def _make_data(self) -> None:
        """Make the cluster beside its place and move it there whole: a start may be cut short at any time."""
        half = self.folder.path / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        give_to_nobody(half)
        command: list[str | Path] = [self.binary.program.with_name("initdb"), "-D", half, *self._initdb_options()]
        done = subprocess.run(
            [*self._prefix, *die_with_parent(command, SIGKILL)],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder.path,
        )
        if done.returncode != 0:
            raise LocalServerError(f"initdb failed in {half}: {done.stderr.strip()[-2000:]}")
        half.rename(self.folder.data)

    def _initdb_options(self) -> list[str]:
        passfile = self.folder.path / "password"
        # No locale of the machine's: it may be missing there tomorrow. The built-in one knows letters beyond ASCII.
        options = ["--locale=C", "--encoding=UTF8"]
        if self.binary.major >= BUILTIN_LOCALES_SINCE:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={passfile}", *options]

    def _command(self) -> list[str]:
        settings = {**SETTINGS, "port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self.binary.program, "-D", self.folder.data, *options]
        # Immediate shutdown: nothing that a client does may keep an orphan alive, and recovery loses no commit.
        return [*self._prefix, *die_with_parent(command, SIGQUIT)]

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

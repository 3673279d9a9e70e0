"""deploy/systemd: what systemd's own tools say of the units."""

from __future__ import annotations

import configparser
import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from service import config
from tests.support.documents import DEPLOY
from tests.support.tools import checked, needs

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = DEPLOY / "systemd"
UNITS = {
    "headshot-mirror-release.service": "migrate",
    "headshot-mirror-web@.service": "web",
    "headshot-mirror-worker@.service": "worker",
    "headshot-mirror-clock.service": "clock",
}
PROGRAM = "/opt/headshot-mirror/bin/headshot-mirror"
# Of 10; a service without any hardening has 9.6, and from 2 on it is no longer called OK.
MOST_EXPOSURE = 1.5


def service(unit: str) -> dict[str, str]:
    """The settings of a unit's process; of one that is set twice, the last."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / unit)
    return dict(parser["Service"])


@pytest.fixture
def installed(folder: Path) -> Path:
    """The units as on a machine that has the program."""
    copy = folder / "system"
    shutil.copytree(FOLDER, copy)
    for unit in UNITS:
        (copy / unit).write_text((copy / unit).read_text().replace(PROGRAM, sys.executable))
    return copy


@needs("systemd-analyze")
def test_systemd_has_nothing_to_say_against_them(installed: Path) -> None:
    for unit in (*UNITS, "headshot-mirror.target"):
        assert checked("systemd-analyze", "verify", "--man=no", installed / unit) == ""


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS)
def test_a_process_is_hardly_exposed(unit: str) -> None:
    limit = str(round(MOST_EXPOSURE * 10))
    told = checked("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={limit}", FOLDER / unit)
    exposure = re.search(r"Overall exposure level for .*: ([\d.]+)", told)
    assert exposure
    assert float(exposure[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize(("unit", "command"), UNITS.items())
def test_a_unit_runs_its_command_and_gives_it_time_to_end(unit: str, command: str) -> None:
    told = service(unit)
    assert told["ExecStart"] == f"{PROGRAM} {command}"
    # Settings that are wrong (status 2) stay wrong.
    assert told["RestartPreventExitStatus"] == "2"
    if command != "migrate":
        assert int(told["TimeoutStopSec"]) > 10
    known = {field.upper() for field in config.Settings.__struct_fields__}
    given = dict(re.findall(r"^Environment=(\w+)=(\S+)$", (FOLDER / unit).read_text(), re.MULTILINE))
    assert given.keys() <= known
    # An instance of web is a port; behind nginx it keeps connections longer than nginx does.
    assert given == ({"PORT": "%i", "KEEPALIVE_SECONDS": "75"} if command == "web" else {})


def test_the_target_starts_every_process() -> None:
    wanted = re.findall(r"[\w.@-]+\.service", (FOLDER / "headshot-mirror.target").read_text())
    templates = {re.sub(r"@\d+", "@", unit) for unit in wanted}
    # The others want the schema's.
    assert templates == UNITS.keys() - {"headshot-mirror-release.service"}

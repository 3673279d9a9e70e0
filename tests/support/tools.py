"""Programs that the tests of deploy/ look at files with: those of the development packages, and the machine's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from service.config import environment
from tests.support.system import PROGRAMS

if TYPE_CHECKING:
    from pathlib import Path

# Their packages; `make tools` installs those of Debian, and CI runs that.
WHERE = {
    "chromium": "on Debian: apt install chromium-headless-shell, or chromium",
    "nginx": "on Debian: apt install nginx-light",
    "openssl": "on Debian: apt install openssl",
    "pgbouncer": "on Debian: apt install pgbouncer",
    "systemd-analyze": "on Debian: apt install systemd",
    "node": "on Debian: apt install nodejs",
    "npm": "on Debian: apt install npm",
    "kubectl": "it is Kubernetes' own",
    "hadolint": "its package has no build for this machine",
}


def found(name: str) -> str | None:
    """Where a program is: beside this Python, or on the PATH."""
    return shutil.which(name, path=f"{PROGRAMS}{os.pathsep}{environment().get('PATH', '')}{os.pathsep}/usr/sbin")


def needs(*names: str) -> pytest.MarkDecorator:
    """Skips a test where a program is missing, and says where it comes from."""
    missing = [f"{name} is not installed ({WHERE[name]})" for name in names if found(name) is None]
    return pytest.mark.skipif(bool(missing), reason=", ".join(missing))


def checked(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """The output of a program that found no fault."""
    name, *words = map(str, command)
    done = subprocess.run([found(name) or name, *words], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr

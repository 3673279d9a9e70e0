"""A run of pytest inside a test, with two processes and no plugin that takes seconds to import."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from service.config import environment
from tests.support.system import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def nested_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder that has a `pytest.ini`; plugins of this project are found, too."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist.plugin", "-n2", "--dist=loadgroup", *options],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS=None),
        capture_output=True,
        text=True,
        check=False,
    )

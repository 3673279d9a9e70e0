"""Finds the system that `up` runs in this folder, by a private file with its settings and the lock of `up`.

Why: `docs/decisions/0029-commands-find-the-system-of-up.md`.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.alerts.problems import LocalUp
from service.errors import LocalServerError
from service.local.servers.folder import check_owner, is_locked, read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOME = Path(".headshot-mirror")
# After this many seconds its processes have sent their first heartbeats, on a slow machine too.
START_SECONDS = 30.0
# In the order in which commands look for them.
MODES = ("live", "sandbox")
SETTINGS_FILE = "settings.json"


class RunningSystem(NamedTuple):
    """A system that `up` runs now.

    Attributes:
        folder: its folder, below the working directory.
        settings: all of its settings, by name, as text; secrets too.
    """

    folder: Path
    settings: Mapping[str, str]

    def local_up(self) -> LocalUp:
        """The system for reports about its problems."""
        try:
            # Written when its processes were started.
            age = time.time() - (self.folder / SETTINGS_FILE).stat().st_mtime
        except FileNotFoundError:
            age = START_SECONDS
        return LocalUp(str(self.folder), is_new=age < START_SECONDS)


@contextmanager
def published(folder: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Let commands find a system while the block runs; the caller holds the folder's lock."""
    path = folder / SETTINGS_FILE
    write_private(path, json.dumps(settings, indent=2) + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running_system(home: Path = HOME) -> RunningSystem | None:
    """The system that runs below a folder; None where none does.

    Raises:
        LocalServerError: the folder belongs to another user, the file with the settings is not private, or the system
            is still starting.
    """
    for mode in MODES:
        folder = home / mode
        if not folder.is_dir():
            continue
        check_owner(home)
        check_owner(folder)
        if is_locked(folder):
            return RunningSystem(folder, _read_settings(folder))
    return None


def _read_settings(folder: Path) -> Mapping[str, str]:
    try:
        settings: Mapping[str, str] = json.loads(read_private(folder / SETTINGS_FILE))
    except FileNotFoundError:
        raise LocalServerError(f"the system in {folder} is starting or stopping: try again in some seconds") from None
    except ValueError:
        raise LocalServerError(f"{folder / SETTINGS_FILE} is not JSON: restart `headshot-mirror up`") from None
    return settings

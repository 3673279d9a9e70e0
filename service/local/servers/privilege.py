"""Root runs PostgreSQL, which refuses to run as root, as user `nobody` with root's right to pass closed folders.

So no new user is needed, and no folder is opened to other users.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from service.errors import LocalServerError

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 65534
# It replaces itself by the command that follows it, so the process id stays.
_AS_NOBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=+dac_override",
    "--ambient-caps=+dac_override",
    "--",
)


def drop_root() -> tuple[str, ...]:
    """The words before a command that must not run as root; none where this process is another user's.

    Raises:
        LocalServerError: root cannot change its user to `nobody` here.
    """
    if os.geteuid() != 0:
        return ()
    works = (
        shutil.which(_AS_NOBODY[0])
        and not subprocess.run([*_AS_NOBODY, "true"], capture_output=True, check=False).returncode
    )
    if not works:
        raise LocalServerError(
            "PostgreSQL refuses to run as root, and root cannot change its user here (setpriv of util-linux): "
            "run as another user, or set DATABASE_URL"
        )
    return _AS_NOBODY


def give_to_nobody(path: Path) -> None:
    """Give a folder and all in it to the user that a command of root's runs as."""
    if os.geteuid() == 0 and path.exists() and path.lstat().st_uid != NOBODY:
        for place, _folders, files in os.walk(path):
            for name in ("", *files):
                os.chown(os.path.join(place, name), NOBODY, -1, follow_symlinks=False)  # noqa: PTH118
        os.chown(path, NOBODY, -1, follow_symlinks=False)

"""How a server that refuses to run as root is run by root, without a new user and without opening folders to anyone."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from service.errors import LocalServerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NOBODY = 65534
CAPABILITIES = "+dac_override,+dac_read_search"


class UserSwitch(NamedTuple):
    """A way to run a command as another user than root.

    Attributes:
        prefix: goes before the command; it replaces itself by it, so the process id stays.
        owner: user id that must own the server's data, as seen by root.
    """

    prefix: tuple[str, ...]
    owner: int


# In a user namespace of its own the command sees itself as nobody and stays root outside: no file needs a new owner.
NAMESPACE = UserSwitch(("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--"), owner=0)
# Containers often forbid those. There it runs as nobody who keeps root's right to pass closed folders.
AS_NOBODY = UserSwitch(
    (
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        f"--inh-caps={CAPABILITIES}",
        f"--ambient-caps={CAPABILITIES}",
        "--",
    ),
    owner=NOBODY,
)
PLAIN = UserSwitch((), owner=os.geteuid())


def find_user_switch() -> UserSwitch:
    """The first user switch that works here; none is needed for users other than root.

    Raises:
        LocalServerError: root cannot switch to another user.
    """
    if os.geteuid() != 0:
        return PLAIN
    for user_switch in (NAMESPACE, AS_NOBODY):
        if _works(user_switch):
            return user_switch
    raise LocalServerError(
        "PostgreSQL refuses to run as root, and here root may neither make a user namespace (unshare) "
        "nor become nobody (setpriv): run as another user, or set DATABASE_URL"
    )


def change_owner(user_switch: UserSwitch, paths: Iterable[Path]) -> None:
    """Give files to the user that the server runs as, where they belong to another."""
    for path in paths:
        if path.exists() and path.lstat().st_uid != user_switch.owner:
            for place, _folders, files in os.walk(path):
                for name in ("", *files):
                    os.chown(os.path.join(place, name), user_switch.owner, -1, follow_symlinks=False)  # noqa: PTH118
            os.chown(path, user_switch.owner, -1, follow_symlinks=False)


def _works(user_switch: UserSwitch) -> bool:
    place = shutil.which(user_switch.prefix[0])
    if place is None:
        return False
    return subprocess.run([*user_switch.prefix, "true"], capture_output=True, check=False).returncode == 0

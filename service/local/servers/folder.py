"""A server's folder: its data, password, port and log, and the lock that keeps it to one server."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import secrets
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.errors import LocalServerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_TIMEOUT_SECONDS = 5.0
LOG_LIMIT_BYTES = 20 * 1024 * 1024
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class ServerFolder:
    """The folder of one server, made when it is not there, readable by this user alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.data = self.path / "data"
        self.log = self.path / "log"
        make_folder(self.path)

    @property
    def port(self) -> int | None:
        """The port on which the server listened last; None where it is not known."""
        try:
            return int((self.path / "port").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    @property
    def password(self) -> str:
        """The server's password: random, made at its first use."""
        return read_or_make_secret(self.path / "password")


def make_folder(path: Path) -> None:
    """Make a folder that only this user may change, or make sure that one is so.

    Programs in it are run, and a server of root changes owners in it: no other user may have put a file there.

    Raises:
        LocalServerError: it cannot be made or written to, belongs to another user, or holds a file of another user.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalServerError(f"{path} cannot be made: {error.strerror}") from None
    check_owner(path)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise LocalServerError(f"{path} cannot be written to by this user: run `chmod u+rwx {path}`")
    _close_to_others(path)


def check_owner(path: Path) -> None:
    """Refuse a folder of another user, and a link of another user.

    Raises:
        LocalServerError: it is one.
    """
    # Of a link, both it and the folder that it leads to.
    for status in (path.lstat(), path.stat()):
        if status.st_uid != os.geteuid():
            raise LocalServerError(
                f"{path} belongs to {_user(status.st_uid)}, and you are {_user(os.geteuid())}: run this as that user, "
                "or in another folder, or move it away to begin anew"
            )


def read_private(path: Path) -> str:
    """The text of a file that `write_private` wrote.

    Raises:
        LocalServerError: it is a symbolic link, belongs to another user, or other users can read or change it.
        FileNotFoundError: there is none.
    """
    try:
        # Without O_NONBLOCK a pipe of this name would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise LocalServerError(f"{path} cannot be read: {reason}") from None
    with os.fdopen(descriptor, encoding="utf-8") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise LocalServerError(f"{path} is not a file that you alone can read: remove it, and run this again")
        return file.read()


def _close_to_others(path: Path) -> None:
    """Take the right to write from all other users; what they may have put into the folder before is refused."""
    open_to_others = bool(path.stat().st_mode & OTHERS_WRITE)
    with os.scandir(path) as entries:
        for entry in entries:
            if os.geteuid() == 0 and entry.is_symlink():
                raise LocalServerError(f"{entry.path} is a symbolic link, which root does not follow there: remove it")
            if open_to_others and entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                raise LocalServerError(
                    f"other users can write to {path}, and {entry.name} in it is not yours: move it away, then run "
                    f"`chmod go-w {path}`"
                )
    if open_to_others:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS_WRITE)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def open_log(path: Path) -> int:
    """A descriptor that appends to a log; the log begins anew once it is large."""
    large = path.exists() and path.stat().st_size > LOG_LIMIT_BYTES
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if large else 0)
    return os.open(path, flags, 0o600)


def log_tail(log: Path, since: int = 0) -> str:
    """The end of a log: at most 2,000 bytes of what follows the byte `since`."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(since, size - 2000))
        return file.read().decode(errors="replace").strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read; a reader sees the old text or the new one, never a part.

    Raises:
        LocalServerError: it cannot be written; the disk may be full.
    """
    half = path.with_name(f"{path.name}.new")
    try:
        half.unlink(missing_ok=True)
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        half.replace(path)
    except OSError as error:
        reason = f"{error.strerror}; it needs a folder that it may write to, with room for its data"
        raise LocalServerError(f"{path} cannot be written: {reason}") from None


def read_or_make_secret(path: Path) -> str:
    """The random text in a file that only this user may read, made at its first use."""
    if not path.exists():
        write_private(path, secrets.token_hex(16))
    return path.read_text(encoding="ascii")


def acquire_lock(path: Path) -> int:
    """A descriptor that holds a folder's lock while any process has it open; a server on its way out is waited for.

    A server is handed the descriptor, so the lock is free exactly when the last of its processes has gone.

    Raises:
        LocalServerError: another process has it.
    """
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise LocalServerError(f"{path} is in use by another process: stop that one first") from None
            time.sleep(0.05)
        else:
            return descriptor


def is_locked(path: Path) -> bool:
    """Whether a process holds the folder's lock now. It takes no lock from a process that waits for it."""
    try:
        descriptor = os.open(path / "lock", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # A shared lock: two processes that check at the same time do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a folder for this process, making it at first; see `acquire_lock`."""
    make_folder(path)
    descriptor = acquire_lock(path)
    try:
        yield
    finally:
        os.close(descriptor)

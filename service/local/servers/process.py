"""Starting, watching and ending one server process; Postgres and Valkey say what is particular to them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from service.errors import LocalServerError
from service.local.servers.folder import acquire_lock, log_tail, open_log, write_private

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from pathlib import Path

    from service.local.servers.binaries import Binary
    from service.local.servers.folder import ServerFolder

ADDRESS = "127.0.0.1"
START_SECONDS = 60.0
# Both servers print this, in one spelling or another, when their port is taken.
PORT_TAKEN = "address already in use"


def is_port_free(port: int, address: str = ADDRESS) -> bool:
    """Whether a server could listen on this port now; an empty address means all of the machine's."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port of 127.0.0.1 on which no process listens now; another process may still be quicker."""
    with socket.socket() as trial:
        trial.bind((ADDRESS, 0))
        port: int = trial.getsockname()[1]
        return port


class LoggedProcess:
    """A process whose output goes to a log; nothing runs yet."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def note_end(self) -> str:
        """How it ended, by a signal or with an exit status, which is also added to its log; empty before that."""
        status = self._process.poll() if self._process is not None else None
        if status is None:
            return ""
        ending = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        # A full disk, for example, may have ended it.
        with contextlib.suppress(OSError), os.fdopen(open_log(self.log), "a") as log:
            log.write(f"headshot-mirror up: this process has ended: {ending}\n")
        return ending

    def _spawn(self, command: Sequence[str], **options: Any) -> int:
        """Start it: where its output begins in the log."""
        log = open_log(self.log)
        try:
            since = os.fstat(log).st_size
            # A session of its own: Ctrl-C at the terminal reaches us alone, and we end the children in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
            )
            return since
        finally:
            os.close(log)


class Server(LoggedProcess, ABC):
    """A server over a data folder, from its start until `stop`.

    Its life: take the folder's lock, prepare the data, choose a port, start, wait until it responds, remember the port.
    The lock is held by the server itself, not by this object. Its port is that of last time, or another where
    that is taken; once started, it keeps to it.
    """

    # The signals that end the server, gentlest first, and the seconds that each is given.
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]

    def __init__(self, folder: ServerFolder, binary: Binary) -> None:
        super().__init__(folder.log)
        self.folder = folder
        self.binary = binary
        self._wanted: int | None = None
        self.port = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it, password included."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The server's name for people."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data where there are none, and mend what a crash left."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line for `self.port`."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server takes requests, with our password."""

    def boot(self) -> Self:
        """Start it and wait until it responds.

        Raises:
            LocalServerError: it did not start; the message holds the end of its log.
        """
        for port in self._ports():
            self.port = port
            failure = self._launch()
            if failure is None:
                self._wanted = self.port
                write_private(self.folder.path / "port", str(self.port))
                return self
            if PORT_TAKEN not in failure.lower():
                break
        raise LocalServerError(f"{self.name} did not start from {self.folder.path}: {failure or 'it printed nothing'}")

    def stop(self) -> None:
        """End it, gently at first, and wait until it has ended; nothing happens when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        for ending, timeout in self.stop_signals:
            process.send_signal(ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
                return
        process.kill()
        process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _ports(self) -> list[int]:
        if self._wanted is not None:
            return [self._wanted]
        last = self.folder.port
        return [*([last] if last and is_port_free(last) else ()), *(free_port() for _ in range(3))]

    def _launch(self) -> str | None:
        """Start the process; None once it responds, else why it did not."""
        lock = acquire_lock(self.folder.path)
        try:
            self._prepare()
            since = self._spawn(self._command(), cwd=self.folder.path, pass_fds=(lock,))
        finally:
            # From here on only the server holds the lock.
            os.close(lock)
        try:
            return self._await(since)
        except BaseException:
            # A signal that ends us while we wait.
            self.stop()
            raise

    def _await(self, since: int) -> str | None:
        process = self._process
        deadline = time.monotonic() + START_SECONDS
        while process is not None and process.poll() is None:
            if self._is_ready():
                return None
            if time.monotonic() > deadline:
                self.stop()
                return f"no response in {START_SECONDS:.0f} s; {log_tail(self.folder.log, since)}"
            time.sleep(0.02)
        self._process = None
        return log_tail(self.folder.log, since)

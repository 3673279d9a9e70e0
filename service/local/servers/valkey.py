"""Valkey on this machine: open to 127.0.0.1 alone, with a password, its data in an append-only file."""

from __future__ import annotations

from signal import SIGTERM
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import redis

from service.local.servers.binaries import find_valkey
from service.local.servers.folder import ServerFolder, write_private
from service.local.servers.process import ADDRESS, Server
from service.parent_death import die_with_parent

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.servers.binaries import Binary

Sync = Literal["always", "everysec", "no"]

CONFIG = """\
bind {address}
port {port}
requirepass {password}
dir {folder}
appendonly yes
appendfsync {sync}
save ""
maxmemory-policy noeviction
daemonize no
"""


class Valkey(Server):
    """A Valkey server, or a Redis where the machine has that one; see `Server`."""

    stop_signals: ClassVar = ((SIGTERM, 1.5),)

    def __init__(self, folder: ServerFolder, binary: Binary, *, sync: Sync) -> None:
        super().__init__(folder, binary)
        self._sync = sync

    @classmethod
    def start(cls, folder: Path, *, sync: Sync = "always", force_wheels: bool = False) -> Self:
        """Start the server of a folder, as `Postgres.start` does; `sync` says when what was written is on the disk."""
        return cls(ServerFolder(folder), find_valkey(force_wheels=force_wheels), sync=sync).boot()

    @property
    def name(self) -> str:
        return f"{self.binary.kind.capitalize()} {self.binary.major} ({self.binary.flavour})"

    @property
    def url(self) -> str:
        return f"redis://:{self.folder.password}@{ADDRESS}:{self.port}/0"

    def _prepare(self) -> None:
        self.folder.data.mkdir(mode=0o700, exist_ok=True)

    def _command(self) -> list[str]:
        # A file, not arguments: every user of the machine may read a process's arguments.
        config = self.folder.path / "server.conf"
        folder = '"' + str(self.folder.data).replace("\\", "\\\\").replace('"', '\\"') + '"'
        password = self.folder.password
        text = CONFIG.format(address=ADDRESS, port=self.port, password=password, folder=folder, sync=self._sync)
        write_private(config, text)
        return die_with_parent([self.binary.program, config], SIGTERM)

    def _is_ready(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

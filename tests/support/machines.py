"""Several machines on one: each a network, a host name and process ids of its own, with a line that can be cut.

`Namespaces` are the real thing, of the kernel's, and need root or a kernel that lets any user make them. They belong to
processes and have no names, so nothing of them is left when those have ended, however they ended. `Loopback` is for
where they are not to be had: processes of one machine whose connections go through `TcpProxy`s.
"""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from signal import SIGKILL
from typing import IO, TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from service.config import SECRETS, environment
from service.local.servers import Postgres, Valkey
from service.parent_death import die_with_parent
from tests.support.ports import free_port
from tests.support.processes import descendants, eventually, kill
from tests.support.servers import QuickPostgres
from tests.support.system import procfile
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Sequence

# Runs a command as the first process of a place of its own, which ends with it. (`--kill-child` is SIGKILL.)
CONTAINER = ("unshare", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
DOOR_PORT = 8000
# The lines to the servers and to the vendor are two, so that a machine can lose the one and keep the other.
NETWORKS = {"servers": "10.77.0", "vendor": "10.78.0"}

# Inside: waits for its two network devices, and becomes the command. The other end's hardware address is set
# beforehand: else its search would fail after three seconds, and packets would not just vanish.
WITHIN = """\
read -r _
echo "mirror-$1" > /proc/sys/kernel/hostname
ip link set lo up
for network in 77 78; do
    ip addr add "10.$network.0.$1/24" dev "eth$network"
    ip link set "eth$network" up
    ip neigh replace "10.$network.0.1" lladdr "02:$network:00:00:00:01" dev "eth$network" nud permanent
done
shift
exec "$@"
"""


class Machine(ABC):
    """A machine that runs one process of the Procfile.

    Attributes:
        role: which.
        web_url: where its web process is reached.
    """

    def __init__(self, role: str, web_url: str, log: Path) -> None:
        self.role = role
        self.web_url = web_url
        self._log = log

    @property
    def said(self) -> str:
        """The output of its process so far."""
        return self._log.read_text(errors="replace")

    @abstractmethod
    def cut(self) -> None:
        """Drop all packets between it and the servers, without an error on either side."""

    @abstractmethod
    def heal(self) -> None:
        """Mend the line."""

    @abstractmethod
    def owns(self, name: str) -> bool:
        """Whether a process of it has this name (`service.process_identity`)."""

    @abstractmethod
    def kill(self) -> None:
        """Switch it off."""


class Machines(AbstractContextManager["Machines"], ABC):
    """All machines, and the one that holds the servers: this process's own.

    Attributes:
        vendor_host: where a vendor on this machine is reached from the others.

    Args:
        folder: where logs and servers go.
    """

    vendor_host = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines: list[Machine] = []

    @abstractmethod
    def postgres(self) -> Postgres:
        """A Postgres that all machines reach."""

    @abstractmethod
    def valkey(self) -> Valkey:
        """A Valkey that all machines reach."""

    @abstractmethod
    def start(self, role: str, settings: dict[str, str]) -> Machine:
        """A machine that runs a process of the Procfile, its settings as they hold where the servers are."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for machine in self.machines:
            machine.kill()

    def _run(
        self, command: Sequence[str], settings: dict[str, str], **streams: Any
    ) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / f"machine-{len(self.machines)}.log"
        none_of_ours = {f"{name}_FILE": None for name in SECRETS}
        with log.open("wb") as output:
            process = subprocess.Popen(
                die_with_parent(command, SIGKILL),
                env=environment(**none_of_ours, **settings),
                cwd=self.folder,
                stdout=output,
                stderr=output,
                **streams,
            )
        return process, log


class Namespaces(Machines):
    """Machines of the kernel's, on two bridges; this process is in a network namespace of its own."""

    vendor_host = f"{NETWORKS['vendor']}.1"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        ip("link", "set", "lo", "up")
        for network, prefix in NETWORKS.items():
            number = prefix.split(".")[1]
            ip("link", "add", network, "address", f"02:{number}:00:00:00:01", "type", "bridge")
            ip("addr", "add", f"{prefix}.1/24", "dev", network)
            ip("link", "set", network, "up")

    def postgres(self) -> Postgres:
        return _OpenPostgres.start(self.folder / "postgres")

    def valkey(self) -> Valkey:
        return _OpenValkey.start(self.folder / "valkey", sync="no")

    def start(self, role: str, settings: dict[str, str]) -> Machine:
        number = len(self.machines) + 2
        servers = f"{NETWORKS['servers']}.1"
        urls = {name: settings[name].replace("@127.0.0.1:", f"@{servers}:") for name in ("DATABASE_URL", "REDIS_URL")}
        command = [
            str(shutil.which(CONTAINER[0])),
            *CONTAINER[1:],
            "sh",
            "-c",
            WITHIN,
            "within",
            str(number),
            *procfile()[role],
        ]
        process, log = self._run(command, {**settings, **urls, "PORT": str(DOOR_PORT)}, stdin=subprocess.PIPE)
        ours = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{process.pid}/ns/net")
        assert eventually(lambda: theirs.readlink() != ours), log.read_text()
        for network, prefix in NETWORKS.items():
            _connect(network, prefix, number, process.pid)
        assert process.stdin is not None
        machine = _Namespace(role, number, process, process.stdin, log)
        self.machines.append(machine)
        return machine


def _connect(network: str, prefix: str, number: int, pid: int) -> None:
    """Plug a machine into a bridge."""
    net = prefix.split(".")[1]
    hardware = f"02:{net}:00:00:00:{number:02x}"
    ip("link", "add", f"{network}{number}", "type", "veth",
       "peer", "name", f"eth{net}", "address", hardware, "netns", str(pid))  # fmt: skip
    ip("link", "set", f"{network}{number}", "master", network, "up")
    ip("neigh", "replace", f"{prefix}.{number}", "lladdr", hardware, "dev", network, "nud", "permanent")


class _Namespace(Machine):
    def __init__(self, role: str, number: int, process: subprocess.Popen[bytes], stdin: IO[bytes], log: Path) -> None:
        super().__init__(role, f"http://{NETWORKS['servers']}.{number}:{DOOR_PORT}", log)
        self._port = f"servers{number}"
        self._process = process
        self._host = f"mirror-{number}"
        stdin.write(b"go\n")
        stdin.close()

    def cut(self) -> None:
        ip("link", "set", self._port, "nomaster")

    def heal(self) -> None:
        ip("link", "set", self._port, "master", "servers")

    def owns(self, name: str) -> bool:
        return name.partition(":")[0] == self._host

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Loopback(Machines):
    """Processes of this machine, each behind lines of its own."""

    def postgres(self) -> Postgres:
        return QuickPostgres.start(self.folder / "postgres")

    def valkey(self) -> Valkey:
        return Valkey.start(self.folder / "valkey", sync="no")

    def start(self, role: str, settings: dict[str, str]) -> Machine:
        port = free_port()
        links = {name: TcpProxy(urlsplit(settings[name]).port or 0) for name in ("DATABASE_URL", "REDIS_URL")}
        urls = {name: settings[name].replace(f":{link._target}/", f":{link.port}/") for name, link in links.items()}
        process, log = self._run(procfile()[role], {**settings, **urls, "PORT": str(port)})
        machine = _Process(role, process, [*links.values(), TcpProxy(port)], log)
        self.machines.append(machine)
        return machine


class _Process(Machine):
    def __init__(self, role: str, process: subprocess.Popen[bytes], links: list[TcpProxy], log: Path) -> None:
        super().__init__(role, f"http://127.0.0.1:{links[-1].port}", log)
        self._links = links
        self._process = process

    def cut(self) -> None:
        for link in self._links:
            link.cut()

    def heal(self) -> None:
        for link in self._links:
            link.heal()

    def owns(self, name: str) -> bool:
        return int(name.split(":")[-2]) in {self._process.pid, *descendants(self._process.pid)}

    def kill(self) -> None:
        for pid in (*descendants(self._process.pid), self._process.pid):
            kill(pid)
        self._process.wait()
        for link in self._links:
            link.__exit__()


class _OpenPostgres(QuickPostgres):
    """Reached from other machines too."""

    def _prepare(self) -> None:
        super()._prepare()
        (self.folder.data / "pg_hba.conf").write_text("host all all 0.0.0.0/0 scram-sha-256\n")

    def _command(self) -> list[str]:
        return [word.replace("listen_addresses=127.0.0.1", "listen_addresses=0.0.0.0") for word in super()._command()]


class _OpenValkey(Valkey):
    def _command(self) -> list[str]:
        command = super()._command()
        config = Path(command[-1])
        config.write_text(config.read_text().replace("bind 127.0.0.1", "bind 0.0.0.0"))
        return command


def ip(*words: str) -> None:
    """Change this namespace's network."""
    subprocess.run(["ip", *words], check=True)

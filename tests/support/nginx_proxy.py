"""A real nginx with deploy/nginx.conf, a certificate of its own, in front of a real web."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from contextlib import contextmanager
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import urllib3

from service.parent_death import die_with_parent
from tests.support.documents import DEPLOY
from tests.support.flood import request
from tests.support.ports import free_port
from tests.support.processes import eventually
from tests.support.system import WEBHOOK_PATH, System, signed
from tests.support.tools import checked, found

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "hooks.example.com"


class NginxProxy:
    """A running nginx.

    Attributes:
        system: what is behind it.
        port: where it listens.
        folder: its configuration, logs and temporary files.
        process: it.
    """

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.port = free_port()
        self.folder = folder
        self.process: subprocess.Popen[bytes]
        self._http = urllib3.HTTPSConnectionPool(
            "127.0.0.1",
            self.port,
            retries=False,
            timeout=20,
            maxsize=4,
            ca_certs=str(folder / "tls/fullchain.pem"),
            server_hostname=NAME,
            assert_hostname=NAME,
        )

    def configure(self, *ports: int, changes: dict[str, str]) -> None:
        """Write the configuration, with other addresses and places and no other change but these."""
        text = (DEPLOY / "nginx.conf").read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        servers = "".join(rf"server 127.0.0.1:{port}\2\n" for port in ports)
        text, changed = re.subn(r"(server 127\.0\.0\.1:\d+(.*;)\s*)+", servers, text)
        assert changed == 1
        text = text.replace("listen 443", f"listen 127.0.0.1:{self.port}").replace("/var/log/nginx", str(self.folder))
        # Debian's are for root alone.
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        text = text.replace("http {\n", f"http {{\n{places}", 1)
        (self.folder / "nginx.conf").write_text(f"daemon off; pid {self.folder}/pid;\n{text}")

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """A request from outside, under the right name."""
        return self._http.request(method, path, body=body, headers={"Host": NAME, **(headers or {})})

    @contextmanager
    def connected(self, source: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
        """A connection of a client that has this address."""
        context = ssl.create_default_context(cafile=str(self.folder / "tls/fullchain.pem"))
        with (
            socket.create_connection(("127.0.0.1", self.port), 60, (source, 0)) as raw,
            context.wrap_socket(raw, server_hostname=NAME) as client,
        ):
            yield client

    @contextmanager
    def send_incomplete(self, body: bytes) -> Iterator[None]:
        """A client that has sent all of a delivery but its last byte."""
        with self.connected() as client:
            client.sendall(request("POST", WEBHOOK_PATH, {"Host": NAME, **signed(body)}, body)[:-1])
            yield

    def deliver(self, body: bytes) -> Any:
        """A delivery as the vendor would send it."""
        return self.send("POST", WEBHOOK_PATH, body, signed(body))


@contextmanager
def running(system: System, folder: Path, *ports: int, changes: dict[str, str] | None = None) -> Iterator[NginxProxy]:
    """An nginx in front of these ports, with changes of its configuration."""
    (folder / "tls").mkdir(parents=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / "tls/privkey.pem")
    name = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-days", "2")
    checked("openssl", "req", "-x509", *key, *name, "-out", folder / "tls/fullchain.pem")
    front = NginxProxy(system, folder)
    front.configure(*ports, changes=changes or {})
    command = [found("nginx") or "", "-e", f"{folder}/error.log", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf"]
    checked(*command, "-t")
    front.process = subprocess.Popen(die_with_parent(command, SIGTERM))
    try:
        assert eventually(lambda: _listens(front.port)), (folder / "error.log").read_text()
        yield front
    finally:
        front.process.terminate()
        front.process.wait(15)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0

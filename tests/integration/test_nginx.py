"""deploy/nginx.conf as it is, but for addresses: a real nginx with a certificate of its own, in front of a real web."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.local.servers import Valkey
from service.web.connection import BODY_TIMEOUT_SECONDS, HEADERS_TIMEOUT_SECONDS
from service.web.webhook import MAX_BODY_BYTES
from tests.support.documents import DEPLOY
from tests.support.nginx_proxy import NAME, NginxProxy, running
from tests.support.processes import eventually
from tests.support.system import WEBHOOK_PATH, System, event_body, model_row, new_id, signed
from tests.support.tools import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres

pytestmark = [needs("nginx", "openssl"), pytest.mark.xdist_group("nginx")]


@pytest.fixture(scope="module")
def front(postgres: Postgres) -> Iterator[NginxProxy]:
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    settings = {"DATABASE_URL": postgres.url, "MIRROR_API_KEYS": "look"}
    with (
        Valkey.start(folder / "valkey", sync="no") as valkey,
        System(folder, REDIS_URL=valkey.url, **settings) as system,
    ):
        system.start("web")
        system.start("worker")
        system.wait_for_web()
        # No process listens on port 9: it plays a web process that is being restarted.
        with running(system, folder / "nginx", 9, system.port) as started:
            yield started
    shutil.rmtree(folder)


def test_delivery_passes_nginx_unchanged_with_one_web_down(front: NginxProxy) -> None:
    model = new_id()
    # Bytes that a proxy which understands JSON would write otherwise.
    body = event_body(model, status="active", title="Ünï \\u0041").replace(b'": ', b'" :\n ')
    answers = [front.deliver(body) for _ in range(3)]
    assert [answer.status for answer in answers] == [202] * 3, front.system.logs()
    assert eventually(lambda: model_row(front.system.settings["DATABASE_URL"] or "", model))


def test_a_body_may_have_256_kib_and_not_a_byte_more(front: NginxProxy) -> None:
    largest = event_body(new_id()).ljust(MAX_BODY_BYTES)
    assert front.deliver(largest).status == 202
    above = largest + b" "
    answer, inside = front.deliver(above), front.system.deliver(above)
    assert answer.status == inside.status == 413
    assert (answer.data, answer.headers["Content-Type"]) == (inside.data, inside.headers["Content-Type"])
    chunked = front.send("POST", WEBHOOK_PATH, iter([above[:1000], above[1000:]]), signed(above))
    assert (chunked.status, chunked.data) == (413, inside.data)
    # Bodies hold people's names: none was written to the disk.
    assert "buffered to a temporary file" not in (front.folder / "error.log").read_text()


def test_errors_of_the_webhook_endpoint_pass_as_they_are(front: NginxProxy) -> None:
    body = event_body(new_id())
    requests: list[tuple[str, bytes | None, dict[str, str]]] = [
        ("POST", body, {}),
        ("POST", b"[]", signed(b"[]")),
        ("POST", body, {**signed(body), "Content-Type": "text/plain"}),
        ("GET", None, {}),
    ]
    for (method, sent, headers), status in zip(requests, (401, 400, 415, 405), strict=True):
        answer = front.send(method, WEBHOOK_PATH, sent, headers)
        inside = front.system._send(method, WEBHOOK_PATH, sent, headers)
        assert (answer.status, answer.data) == (status, inside.data)
        assert answer.headers["Content-Type"] == inside.headers["Content-Type"]
        assert answer.headers.get("Allow") == inside.headers.get("Allow")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/livez",
        "/readyz",
        "/api/v2/organization/models",
        "/api/docs",
        f"{WEBHOOK_PATH}//x",
        f"{WEBHOOK_PATH}/%0a",
        f"{WEBHOOK_PATH}%0a",
        f"{WEBHOOK_PATH}/../../metrics",
        "//metrics",
        f"{WEBHOOK_PATH}%2f..%2f..%2fmetrics",
    ],
)
def test_nothing_but_the_webhook_endpoint_is_reachable(front: NginxProxy, path: str) -> None:
    # Sent as it is: a client's library would tidy the path up.
    context = ssl.create_default_context(cafile=str(front.folder / "tls/fullchain.pem"))
    with (
        socket.create_connection(("127.0.0.1", front.port), 20) as raw,
        context.wrap_socket(raw, server_hostname=NAME) as client,
    ):
        lines = (f"GET {path} HTTP/1.1", f"Host: {NAME}", "Authorization: Bearer look", "Connection: close", "", "")
        client.sendall("\r\n".join(lines).encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, said = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 "), answer
    assert said == b'{"success": false, "error": "there is nothing here", "code": "NOT_FOUND"}\n'


def test_unknown_host_name_or_old_tls_gets_no_response(front: NginxProxy) -> None:
    context = ssl.create_default_context(cafile=str(front.folder / "tls/fullchain.pem"))
    context.check_hostname = False
    old = ssl.create_default_context(cafile=str(front.folder / "tls/fullchain.pem"))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    for asked, name in ((context, "other.example.com"), (old, NAME)):
        with socket.create_connection(("127.0.0.1", front.port), 20) as raw, pytest.raises(ssl.SSLError):
            asked.wrap_socket(raw, server_hostname=name)


def test_nginx_returns_503_with_retry_after_without_web(folder: Path, database_url: str, redis_url: str) -> None:
    # Nothing of the system is started.
    system = System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url)
    with running(system, folder / "nginx", 9, system.port) as front:
        answer = front.deliver(event_body(new_id()))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
    assert answer.json() == {
        "code": "UNAVAILABLE",
        "error": "the event cannot be stored now: send it again",
        "success": False,
    }


@contextmanager
def delivering(front: NginxProxy) -> Iterator[list[int]]:
    """Deliveries from three clients during the block, without a pause for a restart; their statuses."""
    answers: list[int] = []
    enough = threading.Event()

    def deliver() -> None:
        while not enough.wait(0.1):
            answers.append(front.deliver(event_body(new_id())).status)

    threads = [threading.Thread(target=deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def test_trailing_slash_passes(front: NginxProxy) -> None:
    body = event_body(new_id())
    assert front.send("POST", f"{WEBHOOK_PATH}/", body, signed(body)).status == 202


def test_burst_of_the_vendor_passes_whole(front: NginxProxy) -> None:
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: front.deliver(event_body(new_id())).status, range(600)))
    assert set(statuses) == {202}


def test_address_beyond_its_rate_gets_a_429(front: NginxProxy, folder: Path) -> None:
    slower = {"rate=300r/s": "rate=1r/m", "burst=3000": "burst=5"}
    with running(front.system, folder / "slower", front.system.port, changes=slower) as limited:
        responses = [limited.deliver(event_body(new_id())) for _ in range(8)]
    assert [response.status for response in responses] == [202] * 6 + [429] * 2
    assert responses[-1].json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert responses[-1].headers["Retry-After"] == "30"


def test_address_beyond_its_connections_gets_a_429(front: NginxProxy, folder: Path) -> None:
    body = event_body(new_id())
    with running(
        front.system, folder / "fewer", front.system.port, changes={"connections 500": "connections 3"}
    ) as limited:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(limited.send_incomplete(body))
            assert eventually(lambda: limited.deliver(body).status == 429)
        assert eventually(lambda: limited.deliver(body).status == 202)


@pytest.mark.long
def test_web_processes_restarted_in_turn_turn_no_delivery_away(front: NginxProxy, folder: Path) -> None:
    first = front.system
    with System(folder, **{**first.settings, "PORT": None}) as second:
        second.settings["PORT"] = str(second.port)
        webs = {first: first.started[0], second: second.start("web")}
        second.wait_for_web()
        with (
            running(first, folder / "nginx", first.port, second.port) as both,
            delivering(both) as answers,
        ):
            for system, web in webs.items():
                assert web.stop() == 0
                system.start("web")
                system.wait_for_web()
        log = (both.folder / "access.log").read_text().splitlines()
    assert len(answers) > 20
    assert set(answers) == {202}, [line for line in log if " 202 " not in line]


def test_its_limits_are_webs() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    assert f"client_max_body_size {MAX_BODY_BYTES // 1024}k;" in text
    assert f"client_body_buffer_size {MAX_BODY_BYTES // 1024}k;" in text
    assert f"client_header_timeout {HEADERS_TIMEOUT_SECONDS:.0f}s;" in text
    assert f"client_body_timeout {BODY_TIMEOUT_SECONDS:.0f}s;" in text


def test_no_web_process_is_taken_for_dead() -> None:
    # Else the first is still, when the second is restarted within ten seconds. How long a restart takes depends on the
    # machine, so the test above does not always see it.
    servers = re.findall(r"^ *server 127.*$", (DEPLOY / "nginx.conf").read_text(), re.MULTILINE)
    assert len(servers) == 2
    assert all(server.endswith(" max_fails=0;") for server in servers)

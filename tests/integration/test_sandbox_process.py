"""The sandbox as a process: what it keeps, how it ends, what it says of wrong options."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.processes import eventually
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartSandbox

MODELS = "/organization/models"
COMMAND = [sys.executable, "-m", "service.local.sandbox"]


@pytest.mark.parametrize(
    "end", [*(pytest.param(end, marks=pytest.mark.long) for end in (signal.SIGTERM, signal.SIGINT)), signal.SIGKILL]
)
def test_the_state_is_as_it_was_after_a_restart(sandbox: StartSandbox, folder: Path, end: signal.Signals) -> None:
    first = sandbox(models=30, quiet=True, credits=5, state=folder / "state.db")
    caller = SandboxClient(first)
    created = caller.api("POST", MODELS, {"email": "ada@b.example"}).document["modelId"]
    caller.api("DELETE", f"{MODELS}/{next(caller.walk(1, '&status=active'))['id']}")
    before = caller.control("GET", "/models")
    first.process.send_signal(end)
    status = first.process.wait(10)
    assert status == (-signal.SIGKILL if end == signal.SIGKILL else 0)

    second = sandbox(models=999, quiet=True, state=folder / "state.db")
    caller = SandboxClient(second)
    assert (second.api_key, second.webhook_secret) == (first.api_key, first.webhook_secret)
    after = caller.control("GET", "/models")
    assert sorted(after, key=lambda model: model["id"]) == sorted(before, key=lambda model: model["id"])
    assert caller.api("GET", f"{MODELS}/{created}").status == 200
    # Four credits are left of five.
    answers = [caller.api("POST", MODELS, {"email": f"b{number}@b.example"}) for number in range(5)]
    assert [answer.status for answer in answers] == [200] * 4 + [402]
    # Another start draws other ids.
    ids = [model["id"][8:] for model in caller.control("GET", "/models")]
    assert len(set(ids)) == len(ids)


def test_lives_go_on_after_a_restart(sandbox: StartSandbox, folder: Path) -> None:
    first = sandbox(models=0, quiet=True, failure_rate=0, speed=600, state=folder / "state.db")
    body = {"email": "ada@b.example", "isDevelopment": True}
    created = SandboxClient(first).api("POST", MODELS, body).document["modelId"]
    first.process.kill()
    first.process.wait()
    second = SandboxClient(sandbox(births=0, failure_rate=0, speed=600, state=folder / "state.db"))
    assert eventually(lambda: second.control("GET", f"/models/{created}")["status"] == "active")


def test_a_second_process_on_one_state_file_is_refused(sandbox: StartSandbox, folder: Path) -> None:
    sandbox(models=0, state=folder / "state.db")
    done = subprocess.run([*COMMAND, "--state", folder / "state.db"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "in use by another sandbox" in done.stderr


def test_a_taken_port_is_named(sandbox: StartSandbox) -> None:
    port = urlsplit(sandbox(models=0).url).port
    done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize("wrong", [["--loss", "2"], ["--speed", "0"], ["--order", "random"], ["--models", "-1"]])
def test_wrong_options_exit_with_2_and_a_line_naming_them(wrong: list[str]) -> None:
    done = subprocess.run([*COMMAND, *wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert wrong[0].strip("-") in done.stderr
    assert "Traceback" not in done.stderr


def test_it_ends_when_the_process_that_started_it_is_killed() -> None:
    command = [*COMMAND, "--with-parent", "--models", "0"]
    script = f"import subprocess\nchild = subprocess.Popen({command!r})\nprint(child.pid, flush=True)\nchild.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            port = urlsplit(json.loads(parent.stdout.readline())["url"]).port
            assert answers(port)
            parent.kill()
            parent.wait()
            assert eventually(lambda: not answers(port))
        finally:
            # The child is left only where the test has failed.
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def answers(port: int | None) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port or 0)) == 0


def test_a_reset_sandbox_has_nothing_of_before(sandbox: StartSandbox) -> None:
    first = sandbox(models=5, quiet=True, loss=1, rate=7, webhook_url="http://127.0.0.1:9/")
    caller = SandboxClient(first)
    caller.control("POST", "/hostile", {"loss": 0})
    caller.control("POST", "/models", {"events": True})
    caller.api("GET", MODELS)
    second = first.reset({"models": 3, "quiet": True, "credits": 1, "whitelabel": False})
    assert second.url == first.url
    assert second.api_key != first.api_key
    assert second.webhook_secret != first.webhook_secret
    assert caller.api("GET", MODELS).status == 401
    other = SandboxClient(second)
    answer = other.api("GET", MODELS)
    assert len(answer.document["models"]) == 3
    assert answer.headers["X-RateLimit-Limit"] == "300"
    assert set(other.control("GET", "/deliveries").values()) == {0}
    # Our own request, and the one with the old key.
    assert other.control("GET", "/requests")["total"] == 2
    assert other.api("POST", MODELS, {"email": "ada@b.example"}).status == 403


def test_a_reset_with_a_wrong_option_changes_nothing(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=2, quiet=True))
    for wrong in ({"models": -1}, {"models": "many"}, {"loss": 2}, {"unheard_of": 1}, {"state": "x"}, []):
        assert caller.failing_control("POST", "/reset", wrong).status == 400
    assert len(caller.api("GET", MODELS).document["models"]) == 2


def test_a_sandbox_with_a_state_file_refuses_a_reset(sandbox: StartSandbox, folder: Path) -> None:
    caller = SandboxClient(sandbox(models=2, quiet=True, state=folder / "state.db"))
    assert "delete the file" in caller.failing_control("POST", "/reset", {}).document["error"]
    assert len(caller.api("GET", MODELS).document["models"]) == 2

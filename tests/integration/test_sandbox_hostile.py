"""Each switch of a hostile vendor, seen from outside."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
import urllib3

from tests.support.processes import eventually
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from tests.conftest import Sandbox, StartSandbox

MODELS = "/organization/models"


def outcome(http: urllib3.PoolManager, running: Sandbox, method: str = "GET", body: bytes | None = None) -> str:
    """The outcome of one request: its status, or how it broke."""
    headers = {"Authorization": f"Bearer {running.api_key}"}
    try:
        answer = http.request(method, running.url + MODELS, headers=headers, body=body, retries=False)
        msgspec.json.decode(answer.data)
    except urllib3.exceptions.ProtocolError as error:
        return "cut" if "IncompleteRead" in str(error) else "dropped"
    except msgspec.DecodeError:
        return "truncated"
    return str(answer.status)


def test_errors_come_in_every_form_and_the_rest_is_right(sandbox: StartSandbox) -> None:
    running = sandbox(models=20, quiet=True, rate=0, errors=0.5)
    http = urllib3.PoolManager()
    seen = Counter(outcome(http, running) for _ in range(400))
    assert set(seen) == {"200", "500", "truncated", "cut", "dropped"}
    assert 140 < seen["200"] < 260
    counted = SandboxClient(running).control("GET", "/requests")["requests"]
    assert {row["status"]: row["count"] for row in counted} == {
        200: seen["200"] + seen["truncated"],
        500: seen["500"],
        0: seen["cut"] + seen["dropped"],
    }


def test_request_with_an_error_response_may_have_taken_effect(sandbox: StartSandbox) -> None:
    running = sandbox(models=0, quiet=True, rate=0, errors=1)
    http = urllib3.PoolManager()
    bodies = [msgspec.json.encode({"email": f"ada{number}@b.example"}) for number in range(60)]
    for body in bodies:
        assert outcome(http, running, "POST", body) != "200"
    assert 30 < len(SandboxClient(running).control("GET", "/models")) < 60


def test_slow_responses_read_now_or_later_and_hold_up_no_other(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=1, quiet=True, rate=0, slow=4))
    began = time.monotonic()
    with ThreadPoolExecutor(30) as threads:
        pages = [threads.submit(caller.api, "GET", MODELS) for _ in range(30)]
        assert eventually(lambda: caller.control("GET", "/requests")["connections"] >= 30)
        caller.control("POST", "/models")
        # The control API is never slow.
        assert sum(not page.done() for page in pages) > 5
    totals = {page.result().document["pagination"]["total"] for page in pages}
    # Some were read before the new model was there and answered after it.
    assert totals == {1, 2}
    assert time.monotonic() - began < 30 * 4 / 3


def test_drift_shifts_the_pages_under_a_reader(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=200, quiet=True, rate=0, drift=1))
    walked = [model["id"] for model in caller.walk(5)]
    truth = {model["id"] for model in caller.walk(200)}
    # Pages that do not overlap miss some and show others twice.
    assert len(walked) > len(set(walked))
    assert truth - set(walked)
    assert any(model["vanished"] for model in caller.control("GET", "/models"))
    caller.control("POST", "/hostile", {"drift": 0})
    assert list(caller.walk(200)) == list(caller.walk(200))


@pytest.mark.parametrize("deleted", ["hidden", "listed"])
def test_deleted_models_stay_in_the_list_or_vanish(sandbox: StartSandbox, deleted: str) -> None:
    caller = SandboxClient(sandbox(models=3, quiet=True, deleted=deleted))
    gone = next(caller.walk(1))["id"]
    caller.api("DELETE", f"{MODELS}/{gone}")
    statuses = {model["id"]: model["status"] for model in caller.walk(10)}
    single = caller.api("GET", f"{MODELS}/{gone}")
    if deleted == "listed":
        assert statuses[gone] == single.document["model"]["status"] == "deleted"
        assert [model["id"] for model in caller.walk(10, "&status=deleted")] == [gone]
    else:
        assert gone not in statuses
        assert single.status == 404
    caller.control("POST", "/hostile", {"deleted": "hidden"})
    assert gone not in {model["id"] for model in caller.walk(10)}


def test_a_lagging_replica_shows_the_past_for_a_while(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=5, quiet=True, rate=0, replica_lag=3))
    created = caller.api("POST", MODELS, {"email": "ada@b.example"}).document["modelId"]
    place = f"{MODELS}/{created}"
    assert eventually(lambda: caller.api("GET", place).status == 404)
    assert eventually(lambda: {caller.api("GET", place).status for _ in range(20)} == {200})
    caller.api("DELETE", place)
    assert eventually(lambda: created in {model["id"] for model in caller.walk(50)})
    assert eventually(lambda: all(caller.api("GET", place).status == 404 for _ in range(20)))


def test_the_vendors_clock_may_be_off(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=1, quiet=True, skew=500))
    ahead = parsedate_to_datetime(caller.api("GET", MODELS).headers["Date"]).timestamp() - time.time()
    assert 450 < ahead < 550
    created = caller.api("POST", MODELS, {"email": "ada@b.example"}).document["modelId"]
    assert 450 < int(created[:8], 16) - time.time() < 550


def test_quiet_means_that_nothing_moves_by_itself(sandbox: StartSandbox) -> None:
    caller = SandboxClient(sandbox(models=100, births=6000, speed=10000, quiet=True))
    before = caller.control("GET", "/models")
    time.sleep(0.5)
    assert caller.control("GET", "/models") == before
    caller.control("POST", "/hostile", {"quiet": False})
    assert eventually(lambda: len(caller.control("GET", "/models")) > 105)

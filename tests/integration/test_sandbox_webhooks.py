"""The vendor's webhooks as a receiver gets them."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import eventually
from tests.support.receiver import Receiver
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartSandbox

MODELS = "/organization/models"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


def settled(caller: SandboxClient) -> dict[str, int]:
    """The counters, once nothing waits any more."""

    def look() -> dict[str, int]:
        counts: dict[str, int] = caller.control("GET", "/deliveries")
        return counts if counts["waiting"] == 0 else {}

    counts = eventually(look)
    assert counts, caller.control("GET", "/deliveries")
    return counts


def test_creating_and_deleting_is_told_rightly_signed(sandbox: StartSandbox, receiver: Receiver) -> None:
    running = sandbox(models=0, quiet=True, webhook_url=receiver.url)
    caller = SandboxClient(running)
    model_id = caller.api("POST", MODELS, {"email": "ada@b.example"}).document["modelId"]
    caller.api("DELETE", f"{MODELS}/{model_id}")
    assert settled(caller) == {"sent": 2, "acknowledged": 2, "refused": 0, "given_up": 0, "lost": 0, "waiting": 0}
    assert sorted(receiver.of(model_id)) == ["model.created", "model.deleted"]
    assert len(running.webhook_secret) == 64
    for got in receiver.received:
        assert got.is_signed_with(running.webhook_secret)
        assert abs(int(got.timestamp) - time.time()) < 30
    created_before = min(got.document["createdAt"] for got in receiver.received)
    deleted = next(got.document for got in receiver.received if got.document["event"] == "model.deleted")
    assert list(deleted) == ["id", "event", "createdAt", "objectType", "object"]
    assert deleted["object"]["status"] == "deleted"
    assert created_before <= deleted["object"]["deletedAt"] <= deleted["createdAt"]
    truth = caller.control("GET", f"/models/{model_id}")
    shared = set(deleted["object"]) - {"_id"}
    assert {name: truth[name] for name in shared} == {name: deleted["object"][name] for name in shared}
    assert not {"email", "teamId", "photoCount", "favoritePhotoId"} & set(deleted["object"])


def test_a_development_model_tells_its_whole_life(sandbox: StartSandbox, receiver: Receiver) -> None:
    caller = SandboxClient(sandbox(models=0, births=0, failure_rate=0, speed=200, webhook_url=receiver.url))
    body = {"email": "ada@b.example", "isDevelopment": True}
    model_id = caller.api("POST", MODELS, body).document["modelId"]
    assert eventually(lambda: "model.photos_ready" in receiver.of(model_id))
    assert eventually(lambda: receiver.of(model_id).count("model.status.updated") == 4)
    about = [got.document for got in receiver.received]
    told = sorted((event["createdAt"], event["object"]["status"]) for event in about)
    assert [status for _, status in told][:4] == ["onboarding", "waiting", "pending", "generatingHeadshots"]


def test_the_control_api_tells_what_it_is_asked_to(sandbox: StartSandbox, receiver: Receiver) -> None:
    running = sandbox(models=1, quiet=True, webhook_url=receiver.url)
    caller = SandboxClient(running)
    (model,) = caller.control("GET", "/models")
    place = f"/models/{model['id']}"
    caller.control("PATCH", place, {"title": "Silent", "status": "waiting"})
    caller.control("PATCH", place, {"status": "active", "events": True})
    caller.control("PATCH", place, {"favoritePhotoId": "507f1f77bcf86cd799439022", "events": True})
    caller.control("DELETE", f"{place}?events=1")
    (other,) = caller.control("POST", "/models", {"events": True})
    order = {
        "event": "model.unheard_of",
        "modelId": other["id"],
        "object": {"status": "odd"},
        "id": "evt_mine",
        "createdAt": "2024-01-15T12:00:00.000Z",
        "timestamp": 1705320000,
    }
    assert caller.control("POST", "/events", order) == {"id": "evt_mine"}
    settled(caller)
    assert sorted(receiver.of(model["id"])) == [
        "model.deleted",
        "model.favorite_selected",
        "model.photos_ready",
        "model.status.updated",
    ]
    assert sorted(receiver.of(other["id"])) == ["model.created", "model.unheard_of"]
    mine = next(got for got in receiver.received if got.document["event"] == "model.unheard_of")
    assert (mine.timestamp, mine.document["id"], mine.document["object"]["status"]) == ("1705320000", "evt_mine", "odd")
    assert mine.is_signed_with(running.webhook_secret)


@pytest.mark.parametrize("signing", ["anew", "first"])
def test_four_tries_at_the_vendors_intervals_and_then_it_is_gone(sandbox: StartSandbox, signing: str) -> None:
    # 5 min, 15 min and 1 h, 900 times as fast.
    with Receiver(lambda number: 500) as receiver:
        running = sandbox(models=0, quiet=True, speed=900, retry_signing=signing, webhook_url=receiver.url)
        caller = SandboxClient(running)
        caller.control("POST", "/models", {"events": True})
        counts = settled(caller)
        assert (counts["sent"], counts["refused"], counts["given_up"]) == (4, 4, 1)
        got = receiver.received
    assert len({each.body for each in got}) == 1
    waits = [after.at - before.at for before, after in pairwise(got)]
    for wait, wanted in zip(waits, (1 / 3, 1, 4), strict=True):
        assert wanted * 0.9 < wait < wanted + 15
    assert all(each.is_signed_with(running.webhook_secret) for each in got)
    stamps = {each.timestamp for each in got}
    # The first two tries may fall into one second.
    assert len(stamps) == 1 if signing == "first" else len(stamps) >= 3


def test_any_2xx_acknowledges_and_nothing_else(sandbox: StartSandbox) -> None:
    answers = {1: 302, 2: 404, 3: 204}
    with Receiver(lambda number: answers[number]) as receiver:
        caller = SandboxClient(sandbox(models=0, quiet=True, speed=3000, webhook_url=receiver.url))
        caller.control("POST", "/models", {"events": True})
        assert settled(caller)["acknowledged"] == 1
        assert len(receiver.received) == 3


def test_a_receiver_that_is_not_there_yet_is_tried_again(sandbox: StartSandbox) -> None:
    with Receiver() as gone:
        address = gone.url
    caller = SandboxClient(sandbox(models=0, quiet=True, speed=300, webhook_url=address))
    caller.control("POST", "/models", {"events": True})
    assert eventually(lambda: caller.control("GET", "/deliveries")["refused"] >= 1)
    with Receiver() as receiver:
        caller.control("POST", "/webhook", {"url": receiver.url})
        assert settled(caller)["acknowledged"] == 1


def test_rotating_the_secret_ends_the_old_one_at_once(sandbox: StartSandbox, receiver: Receiver) -> None:
    running = sandbox(models=0, quiet=True, webhook_url=receiver.url)
    caller = SandboxClient(running)
    caller.control("POST", "/webhook", {"secret": "new secret"})
    caller.control("POST", "/models", {"events": True})
    settled(caller)
    (got,) = receiver.received
    assert got.is_signed_with("new secret")
    assert not got.is_signed_with(running.webhook_secret)
    caller.control("POST", "/webhook", {"url": None})
    caller.control("POST", "/models", {"events": True})
    assert settled(caller)["sent"] == 1


def test_bodies_come_in_the_form_that_was_asked_for(sandbox: StartSandbox, receiver: Receiver) -> None:
    caller = SandboxClient(sandbox(models=0, quiet=True, webhook_form="bare", webhook_url=receiver.url))
    caller.control("POST", "/models", {"n": 3, "events": True})
    settled(caller)
    assert {tuple(got.document) for got in receiver.received} == {("event", "objectType", "object")}
    caller.control("POST", "/hostile", {"webhook_form": "mixed"})
    caller.control("POST", "/models", {"n": 40, "events": True})
    settled(caller)
    full = sum("id" in got.document for got in receiver.received[3:])
    assert 5 < full < 35


def test_loss_duplicates_and_reordering(sandbox: StartSandbox, receiver: Receiver) -> None:
    caller = SandboxClient(
        sandbox(models=0, quiet=True, webhook_url=receiver.url, loss=0.3, duplicates=0.5, reorder=1.5)
    )
    created = [model["id"] for model in caller.control("POST", "/models", {"n": 200, "events": True})]
    counts = settled(caller)
    arrived = [got.document["object"]["_id"] for got in receiver.received]
    assert 30 < counts["lost"] < 90
    assert len(set(arrived)) == 200 - counts["lost"]
    assert 60 < len(arrived) - len(set(arrived)) < 110
    # A delivery that is repeated is the same event.
    assert len({got.document["id"] for got in receiver.received}) == len(set(arrived))
    # Sixteen at once shuffle neighbours; a random delay carries an event past most of the others.
    order = list(dict.fromkeys(arrived))
    wanted = [model_id for model_id in created if model_id in set(order)]
    assert max(abs(order.index(model_id) - place) for place, model_id in enumerate(wanted)) > 60


def test_what_waits_outlives_a_kill(sandbox: StartSandbox, folder: Path) -> None:
    refusing: dict[str, Any] = {"status": 503}
    with Receiver(lambda number: refusing["status"]) as receiver:
        options = {"quiet": True, "speed": 60, "state": folder / "state.db", "webhook_url": receiver.url}
        first = sandbox(models=0, **options)
        caller = SandboxClient(first)
        caller.control("POST", "/models", {"n": 30, "events": True})
        assert eventually(lambda: caller.control("GET", "/deliveries")["refused"] == 30)
        first.process.kill()
        first.process.wait()
        refusing["status"] = 202
        before = len(receiver.received)
        second = sandbox(**options)
        assert second.webhook_secret == first.webhook_secret
        assert settled(SandboxClient(second))["acknowledged"] == 30
        events = {got.document["id"] for got in receiver.received[:before]}
        assert {got.document["id"] for got in receiver.received[before:]} == events
        assert len(events) == 30
        second.process.terminate()
        second.process.wait()
        # An acknowledged event is not sent again.
        assert settled(SandboxClient(sandbox(**options)))["sent"] == 0

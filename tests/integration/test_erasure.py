"""Erasing a tombstone: everything that names the person is deleted, in every table, and no other person's data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from service.broker.inbox import Delivery
from service.mirror.drain import drain_batch
from service.mirror.erasure import erase, erase_now
from service.mirror.retention import RetentionLimits, apply_limits
from service.storage import erasure
from tests.integration.test_retention import FOREVER, dead_and_gone, everything
from tests.support.acting import TESTER
from tests.support.drainer import T0, TOLERANCE, minutes
from tests.support.system import event_body, event_document, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.drainer import Drainer

SOON: RetentionLimits = FOREVER._replace(personal=0)
WAYS: list[Callable[[Drainer, str], object]] = [
    lambda drainer, model: erase_now(drainer.engine, model, TESTER),
    lambda drainer, _model: apply_limits(drainer.engine, SOON, 30),
]


def payloads(drainer: Drainer) -> dict[str, Any]:
    """The kept payload of each event."""
    return {
        row["id"]: row["payload"] for row in rows(drainer.url, "select id, payload from headshotpro.webhook_events")
    }


def event(event_id: str, model: str, **fields: Any) -> bytes:
    return event_body(model, event_id=event_id, at=minutes(9), **fields)


@pytest.mark.parametrize("way", WAYS, ids=["at once", "when its time has come"])
def test_bodies_of_other_events_that_name_the_person_go(
    drainer: Drainer, way: Callable[[Drainer, str], object]
) -> None:
    model = dead_and_gone(drainer)
    other, namesake = new_id(), new_id()
    user = {"event": "user.updated", "objectType": "user", "createdAt": T0.isoformat()}
    drainer.take(
        event("evt_other", other, title="Bob", note="sent to Zoe@Example.COM yesterday"),
        event("evt_inviter", other, title="Bob", inviter={"names": ["Zoë Quux"]}),
        event("evt_earlier", other, title="Bob", note="once called Zoë before, it says"),
        event("evt_uid", other, title="Bob", friend="anon_zoe"),
        event("evt_clean", other, title="Bob", note="zoe, example.com, Quux"),
        # Somebody else of the same name: it is that one's own event.
        event("evt_namesake", namesake, title="Zoë Quux"),
        json.dumps({**user, "id": "evt_user", "user": {"name": "ZOË QUUX"}}).encode(),
        json.dumps({**user, "id": "evt_about", "user": {"models": [model]}}).encode(),
        json.dumps({**user, "id": "evt_users", "user": {"name": "Zoë"}}).encode(),
    )
    way(drainer, model)
    kept = {event_id for event_id, payload in payloads(drainer).items() if payload is not None}
    assert {one for one in kept if one.startswith("evt_")} >= {"evt_clean", "evt_namesake", "evt_users"}
    gone = {"evt_other", "evt_inviter", "evt_earlier", "evt_uid", "evt_user", "evt_about"}
    assert gone & kept == set()
    assert payloads(drainer).keys() >= gone
    after = everything(drainer.url)
    assert [word for word in ("zoe@example.com", "Zoe@Example.COM", "anon_zoe", "Zoë before") if word in after] == []
    assert drainer.row(namesake)["title"] == "Zoë Quux"


def test_unreadable_bodies_that_name_the_person_go(drainer: Drainer) -> None:
    model = dead_and_gone(drainer)
    whole = event_document(new_id(), title="Zoë Quux")
    for body in (json.dumps(whole)[:-1] + ", broken", json.dumps(whole, ensure_ascii=False)[:-1] + "; zoe@example.com"):
        drainer.box.put(Delivery.arrived(body.encode(), int(T0.timestamp()), T0))
    drain_batch(drainer.engine, drainer.box, drainer.box.read(10, 0), TOLERANCE)
    dead = rows(drainer.url, "select payload from headshotpro.webhook_events where status = 'dead'")
    assert len(dead) == 2
    assert all("Quux" in row["payload"] for row in dead)
    erase_now(drainer.engine, model, TESTER)
    assert rows(drainer.url, "select count(payload) as n from headshotpro.webhook_events where status = 'dead'") == [
        {"n": 0}
    ]


def test_short_title_is_no_part_of_other_words(drainer: Drainer) -> None:
    model, other = new_id(), new_id()
    drainer.take(event_body(model, at=T0, title="Ann"), event_body(model, event="model.deleted", at=minutes(1)))
    drainer.take(
        event("evt_word", other, title="Annabel", note="announced"),
        event("evt_name", other, title="Annabel", inviter="ann"),
    )
    erase_now(drainer.engine, model, TESTER)
    kept = payloads(drainer)
    assert kept["evt_word"] is not None
    assert kept["evt_name"] is None


@pytest.mark.parametrize("title", ["active", "organization", "model.status.updated", "female", "title", 'a"b\\c"d\\e'])
def test_erasure_of_a_vendor_word_as_title_keeps_other_bodies(drainer: Drainer, title: str) -> None:
    model, other = new_id(), new_id()
    drainer.take(event_body(model, at=T0, title=title), event_body(model, event="model.deleted", at=minutes(1)))
    drainer.take(
        event("evt_other", other, title="Bob", trigger="female", organization="organization"),
        event("evt_named", other, title="Bob", invitedBy=title),
    )
    erase_now(drainer.engine, model, TESTER)
    kept = payloads(drainer)
    assert kept["evt_other"] is not None
    assert kept["evt_named"] is None


def test_address_that_is_the_name_of_a_field_goes(drainer: Drainer) -> None:
    model, other = dead_and_gone(drainer), new_id()
    drainer.take(event("evt_name", other, title="Bob", invited={"Zoe@example.com": 1}))
    erase_now(drainer.engine, model, TESTER)
    assert payloads(drainer)["evt_name"] is None


def test_idempotency_keys_of_the_person_go_and_others_stay(drainer: Drainer) -> None:
    model = dead_and_gone(drainer)
    claim = (
        "insert into headshotpro.idempotency_keys "
        "(scope, key, fingerprint, holder, claimed_at, leased_until, attempts, model_id) "
        "values ('s', %s, 'f', 'h', now(), now() + %s::interval, 1, %s)"
    )
    for key, lease, created in (
        ("made it", "-1 s", model),
        ("retry-Zoe@example.com-2", "-1 s", None),
        ("signup:zoe%40example.com", "-1 s", None),
        ("in use zoe@example.com", "60 s", None),
        ("somebody else", "-1 s", new_id()),
    ):
        rows(drainer.url, claim + " returning 1", key, lease, created)
    erase_now(drainer.engine, model, TESTER)
    left = {row["key"] for row in rows(drainer.url, "select key from headshotpro.idempotency_keys")}
    assert left == {"in use zoe@example.com", "somebody else"}


def test_search_goes_through_every_slice_of_events(drainer: Drainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.mirror.erasure.EVENT_BATCH_SIZE", 2)
    model, other = dead_and_gone(drainer), new_id()
    drainer.take(*(event(f"evt_{number}", other, title="Bob", note="zoe@example.com") for number in range(7)))
    assert erase(drainer.engine, [model]) == 1
    assert not any(payloads(drainer)[f"evt_{number}"] for number in range(7))
    # The second call finds no model.
    assert erase(drainer.engine, [model]) == 0


def test_search_that_stops_at_its_deadline_goes_on_later(drainer: Drainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.mirror.erasure.EVENT_BATCH_SIZE", 2)
    model, other = dead_and_gone(drainer), new_id()
    drainer.take(*(event(f"evt_{number}", other, title="Bob", note="zoe@example.com") for number in range(7)))
    results = [erase(drainer.engine, [model], deadline=0.0) for _ in range(3)]
    assert results == [None, None, None]
    assert drainer.row(model)["erased_at"] is None
    # Each call went a slice further; one that begins anew each time never ends.
    while (result := erase(drainer.engine, [model], deadline=0.0)) is None:
        results.append(result)
        assert len(results) < 10
    assert result == 1
    assert not any(payloads(drainer)[f"evt_{number}"] for number in range(7))


def test_event_that_arrives_during_the_search_is_searched(drainer: Drainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.mirror.erasure.EVENT_BATCH_SIZE", 2)
    model, other = dead_and_gone(drainer), new_id()
    drainer.take(*(event(f"evt_{number}", other, title="Bob", note="zoe@example.com") for number in range(7)))
    for _ in range(3):
        assert erase(drainer.engine, [model], deadline=0.0) is None
    drainer.take(event("a_late_one", other, title="Bob", note="zoe@example.com"))
    assert erase(drainer.engine, [model]) == 1
    assert payloads(drainer)["a_late_one"] is None


def test_tombstone_due_during_a_search_does_not_restart_it(drainer: Drainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.mirror.erasure.EVENT_BATCH_SIZE", 2)
    first, second = dead_and_gone(drainer), new_id()
    drainer.take(*(event(f"evt_{number}", new_id(), title="Bob", note="zoe@example.com") for number in range(7)))
    assert erase(drainer.engine, [first], deadline=0.0) is None
    drainer.take(event_body(second, at=T0, title="Ann"), event_body(second, event="model.deleted", at=minutes(1)))
    searched_from: list[str] = []
    erase_payloads = erasure.erase_payloads

    def spy(connection: Any, names: Any, above: str, count: int) -> str | None:
        searched_from.append(above)
        return erase_payloads(connection, names, above, count)

    monkeypatch.setattr(erasure, "erase_payloads", spy)
    assert apply_limits(drainer.engine, SOON, 30)
    assert searched_from[0] > "", "the search for the first one goes on"
    assert drainer.row(first)["erased_at"] is not None
    assert drainer.row(second)["erased_at"] is not None


def test_living_model_and_its_events_are_left_alone(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event("evt_alive", model, title="Zoë Quux", uid="anon_zoe"))
    assert erase(drainer.engine, [model]) == 0
    assert payloads(drainer)["evt_alive"] is not None

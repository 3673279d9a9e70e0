"""The changes of the vendor's models, the events about them, and the list."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.errors import ApiError
from service.local.sandbox.account import Account, new_organization
from service.local.sandbox.events import event_names
from service.local.sandbox.lifecycle import enter_status
from service.local.sandbox.model import VendorModel, object_id
from service.local.sandbox.people import Person
from service.local.sandbox.switches import Switches
from service.local.sandbox.vendor import Vendor
from tests.support.searching import examples

START = 1_700_000_000_000
TEAMS = ("team_a", "team_b", None)


class House:
    """A vendor whose clock moves a little with each change, so that every moment has one state."""

    def __init__(self, credit: int = 10, **switches: object) -> None:
        self.now = START
        self.switches = Switches(**switches)
        account = Account(
            organization=new_organization(Random(1)), api_key="key", webhook_secret="secret", seed=1, credits=credit
        )
        self.vendor = Vendor(account, self.switches, Random(1), self.clock)
        self.people = 0

    def clock(self) -> int:
        return self.now

    def add(self, team_id: str | None = None, status: str = "onboarding") -> VendorModel:
        self.people += 1
        person = Person("Somebody", f"somebody{self.people}@x.example", "female")
        new_model = self.vendor.new_model(person, team_id, is_development=False, created=self.now)
        return self.vendor.put(replace(new_model, status=status))

    def refusal(self, email: str, team_id: str | None = None) -> tuple[int, str, str]:
        with pytest.raises(ApiError) as refused:
            self.vendor.sign_up(email, team_id, is_development=False)
        return refused.value.status, refused.value.code, str(refused.value)


def test_signing_up_is_refused_with_the_documented_codes() -> None:
    house = House(credit=1)
    house.vendor.sign_up("Ada@x.example", None, is_development=False)
    assert house.refusal("no address") == (400, "INVALID_REQUEST", "Invalid email format")
    assert house.refusal("ada@X.example") == (400, "INVALID_REQUEST", "User with this email already exists")
    assert house.refusal("bob@x.example", "team_none") == (404, "NOT_FOUND", "Team not found")
    assert house.refusal("bob@x.example") == (402, "INSUFFICIENT_CREDITS", "Not enough credits")
    house.switches.whitelabel = False
    assert house.refusal("bob@x.example") == (403, "FORBIDDEN", "Whitelabel feature not enabled")


def test_the_other_dialect_has_codes_of_its_own() -> None:
    house = House(dialect="others")
    house.vendor.sign_up("ada@x.example", None, is_development=False)
    assert house.refusal("no address")[:2] == (400, "INVALID_EMAIL")
    assert house.refusal("ada@x.example")[:2] == (400, "ALREADY_EXISTS")


def test_a_development_model_costs_nothing() -> None:
    house = House(credit=0)
    house.vendor.sign_up("ada@x.example", None, is_development=True)
    assert house.vendor.account.credits == 0


def test_deleting_frees_the_address_and_works_once() -> None:
    house = House()
    model = house.vendor.sign_up("ada@x.example", None, is_development=False)
    house.vendor.delete(model.id)
    with pytest.raises(ApiError) as again:
        house.vendor.delete(model.id)
    assert (again.value.status, again.value.code) == (400, "ALREADY_DELETED")
    assert house.vendor.sign_up("ada@x.example", None, is_development=False).id != model.id


def test_a_vanished_model_was_never_there() -> None:
    house = House(deleted="listed")
    model = house.add()
    house.vendor.events.clear()
    house.vendor.vanish(model)
    assert house.vendor.listing.find(model.id) is None
    assert house.vendor.listing.page(0, 10)[1] == 0
    assert house.vendor.events == []
    with pytest.raises(ApiError):
        house.vendor.delete(model.id)


@pytest.mark.parametrize(
    ("status", "names"),
    [
        ("onboarding", []),
        ("failed", ["model.status.updated"]),
        ("active", ["model.status.updated", "model.photos_ready"]),
        ("deleted", ["model.deleted"]),
    ],
)
def test_a_change_of_status_is_told(status: str, names: list[str]) -> None:
    model = House().add()
    changed = model if status == model.status else enter_status(model, status, START, Random(1), 1)
    assert event_names(model, changed) == names


def test_favourite_event_is_sent_when_picked_not_when_removed() -> None:
    model = House().add(status="active")
    picked = replace(model, favorite_photo_id=object_id(Random(1), START))
    assert event_names(model, picked) == ["model.favorite_selected"]
    assert event_names(picked, replace(picked, title="Other")) == []
    assert event_names(picked, model) == []


def test_events_carry_the_model_as_it_was_then() -> None:
    house = House()
    model = house.add()
    house.vendor.put(enter_status(model, "waiting", START, Random(1), 1))
    assert [event.object["status"] for event in house.vendor.events] == ["onboarding", "waiting"]
    assert set(house.vendor.events[0].object) == {
        "_id", "uid", "title", "trigger", "status", "isDevelopment", "finishedAt", "deletedAt", "inviteExpiresAt",
        "createdAt", "organization",
    }  # fmt: skip
    assert len({event.id for event in house.vendor.events}) == 2


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "change", "change", "delete", "vanish", "wait"]),
        st.integers(0, 10**6),
        st.sampled_from(["pending", "active", "failed"]),
        st.sampled_from(TEAMS),
    ),
    min_size=4,
    max_size=15,
)


def play(house: House, history: list[tuple[str, int, str, str | None]]) -> list[tuple[int, dict[str, VendorModel]]]:
    """Do what the history says; after each step the moment and every model as it then stood."""
    seen = [(house.now, dict(house.vendor.models))]
    for step, number, status, team_id in history:
        house.now += 1 + number % 3
        live = [model for model in house.vendor.models.values() if model.is_live]
        if step == "add":
            house.add(team_id, status)
        elif live and step != "wait":
            model = live[number % len(live)]
            if step == "change":
                house.vendor.put(replace(model, status=status, team_id=team_id))
            elif step == "delete":
                house.vendor.delete(model.id)
            else:
                house.vendor.vanish(model)
        seen.append((house.now, dict(house.vendor.models)))
    return seen


def expected(
    models: dict[str, VendorModel], switches: Switches, status: str | None, team_id: str | None
) -> list[VendorModel]:
    """The contents of the list, in the simplest form."""
    shown = [
        model
        for model in models.values()
        if not model.vanished
        and (model.status != "deleted" or switches.deleted == "listed")
        and status in (None, model.status)
        and team_id in (None, model.team_id)
    ]
    return sorted(shown, key=lambda model: model.key, reverse=switches.order == "newest")


@settings(max_examples=examples(50))
@given(
    history=steps,
    order=st.sampled_from(["newest", "oldest"]),
    deleted=st.sampled_from(["hidden", "listed"]),
)
def test_each_page_is_a_slice_of_the_sorted_list_even_lagging(
    history: list[tuple[str, int, str, str | None]], order: str, deleted: str
) -> None:
    house = House(order=order, deleted=deleted)
    seen = play(house, history)
    questions = list(itertools.product([None, "pending", "active", "deleted", "unheard of"], TEAMS))
    for moment, models in [(None, house.vendor.models), *seen]:
        for status, team_id in questions:
            shown = expected(models, house.switches, status, team_id)
            for offset, limit in ((0, 100), (1, 2), (3, 100)):
                page = house.vendor.listing.page(offset, limit, status=status, team_id=team_id, moment=moment)
                assert page == (shown[offset : offset + limit], len(shown))
        everything = {model.id: model for model in expected(models, house.switches, None, None)}
        for model_id in house.vendor.models:
            assert house.vendor.listing.find(model_id, moment) == everything.get(model_id)


def test_turning_deleted_shows_and_hides_what_is_deleted() -> None:
    house = House()
    model = house.vendor.delete(house.add().id)
    house.switches.update_switches({"deleted": "listed"})
    house.vendor.listing.rebuild()
    assert house.vendor.listing.page(0, 10)[0] == [model]
    house.switches.update_switches({"deleted": "hidden"})
    house.vendor.listing.rebuild()
    assert house.vendor.listing.page(0, 10)[0] == []

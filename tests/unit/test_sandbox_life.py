"""Lives at the vendor, with the time in the test's hands."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from service.local.sandbox.account import Account, new_organization
from service.local.sandbox.life import MAX_LIVE_MODELS, LifeSimulator
from service.local.sandbox.lifecycle import enter_status
from service.local.sandbox.model import VendorModel, milliseconds
from service.local.sandbox.people import Person, population
from service.local.sandbox.switches import Switches
from service.local.sandbox.vendor import Vendor

START = 1_700_000_000_000
WAY = ["onboarding", "waiting", "pending", "generatingHeadshots", "active"]


class World:
    """A vendor without people and with a clock that only the test moves."""

    def __init__(self, **switches: object) -> None:
        self.now = START
        self.switches = Switches(**{"births": 0.0, "failure_rate": 0.0} | switches)
        account = Account(
            organization=new_organization(Random(1)), api_key="key", webhook_secret="secret", seed=1, credits=10
        )
        self.vendor = Vendor(account, self.switches, Random(1), self.clock)
        self.life = LifeSimulator(self.vendor, self.switches, Random(2), self.clock)

    def clock(self) -> int:
        return self.now

    def add(self, number: int = 1, *, is_development: bool = True) -> str:
        """Somebody new; the id."""
        person = Person(f"person{number}", f"person{number}@x.example", "male")
        new_model = self.vendor.new_model(person, None, is_development=is_development, created=self.now)
        return self.vendor.put(new_model).id

    def pass_time(self, seconds: float, step: float = 1.0) -> list[str]:
        """Let time pass in steps; the statuses that any model was seen in, in order and without repetition."""
        seen: list[str] = []
        for _ in range(int(seconds / step)):
            self.now += int(step * 1000)
            self.life.advance()
            seen += [model.status for model in self.vendor.models.values() if [model.status] != seen[-1:]]
        return seen

    def told(self) -> list[str]:
        """The names of the events since the last question."""
        events, self.vendor.events = self.vendor.events, []
        return [event.name for event in events]


def only(world: World) -> VendorModel:
    (model,) = world.vendor.models.values()
    return model


@pytest.mark.parametrize(("is_development", "lifetime"), [(True, 180), (False, 3600)])
def test_a_model_goes_all_the_way_in_about_its_lifetime(is_development: bool, lifetime: int) -> None:
    world = World()
    world.add(is_development=is_development)
    assert world.pass_time(lifetime * 1.3, lifetime / 300) == WAY
    took = (milliseconds(only(world).finished_at or "") - START) / 1000
    assert lifetime * 0.75 < took < lifetime * 1.25


def test_speed_shortens_a_life() -> None:
    world = World(speed=60.0)
    world.add(is_development=False)
    assert world.pass_time(80, 0.2) == WAY


def test_each_step_of_a_life_is_told_and_active_brings_photos() -> None:
    world = World()
    world.add()
    world.pass_time(300)
    told = world.told()
    assert told[:6] == ["model.created", *["model.status.updated"] * 4, "model.photos_ready"]
    assert only(world).photo_count > 0
    assert only(world).finished_at is not None


def test_some_pick_a_favorite_later_and_only_then_is_it_told() -> None:
    world = World()
    for number in range(60):
        world.add(number)
    world.pass_time(180 * 1.25)
    world.pass_time(180)
    picked = [model for model in world.vendor.models.values() if model.favorite_photo_id]
    assert 15 < len(picked) < 45
    assert world.told().count("model.favorite_selected") == len(picked)


def test_failures_restart_until_the_model_is_active() -> None:
    world = World(failure_rate=0.3)
    for number in range(40):
        world.add(number)
    seen = Counter(world.pass_time(180 * 20, 2))
    assert seen["failed"] > 0
    assert {model.status for model in world.vendor.models.values()} == {"active"}


def test_sandbox_change_cancels_a_transition_that_was_due() -> None:
    world = World()
    model_id = world.add()
    # Onboarding would have ended within 54 s; pending lasts 57 s at least.
    world.vendor.put(enter_status(world.vendor.models[model_id], "pending", world.now, Random(4), 1))
    world.pass_time(56)
    assert only(world).status == "pending"
    world.vendor.delete(model_id)
    world.pass_time(600)
    assert only(world).status == "deleted"


def test_quiet_stops_all_changes_and_none_are_caught_up_later() -> None:
    world = World(quiet=True, births=60.0)
    world.add()
    world.pass_time(600)
    assert only(world).status == "onboarding"
    world.switches.quiet = False
    world.pass_time(1)
    # One second at a birth a second; the ten minutes before brought none.
    assert len(world.vendor.models) <= 2


def test_births_follow_their_rate_with_deletions_and_favourites() -> None:
    world = World(births=60.0)
    world.vendor.load(population(200, world.vendor.account.organization, Random(3), now=START, speed=1))
    world.pass_time(600)
    told = Counter(world.told())
    assert told["model.created"] == 600
    assert 20 < told["model.deleted"] < 120
    assert told["model.favorite_selected"] > 100


def test_a_crowded_sandbox_stops_growing() -> None:
    world = World(births=600.0)
    organization = world.vendor.account.organization
    world.vendor.load(population(MAX_LIVE_MODELS + 100, organization, Random(3), now=START, speed=1))
    world.pass_time(30)
    assert len(world.vendor.emails) == MAX_LIVE_MODELS + 100


def test_drift_creates_deletes_and_lets_vanish() -> None:
    world = World()
    world.vendor.load(population(500, world.vendor.account.organization, Random(3), now=START, speed=1))
    for _ in range(100):
        world.life.drift()
    vanished = [model for model in world.vendor.models.values() if model.vanished]
    told = Counter(world.told())
    assert told["model.created"] > 50
    assert told["model.deleted"] > 20
    assert len(vanished) > 20


def test_model_signed_up_by_address_has_a_name_after_onboarding() -> None:
    world = World()
    world.vendor.sign_up("ada.lovelace@x.example", None, is_development=True)
    assert only(world).title == "ada.lovelace"
    world.pass_time(180)
    assert only(world).title == "Ada Lovelace"


def test_the_same_seed_makes_the_same_people() -> None:
    organization = new_organization(Random(7))
    first, second = (population(300, organization, Random(7), now=START, speed=1) for _ in range(2))
    assert first == second
    assert len({model.email for model in first}) == len({model.id for model in first}) == 300
    statuses = Counter(model.status for model in first)
    assert statuses["active"] > 200
    assert len(statuses) == 6
    assert all(int(model.id[:8], 16) == milliseconds(model.created_at) // 1000 for model in first)
    assert all((model.finished_at is not None) == (model.status == "active") for model in first)

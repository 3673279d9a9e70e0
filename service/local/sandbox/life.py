"""Events at the vendor by itself: models move on, people come and go, and drift moves the list under a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from service.local.sandbox.lifecycle import advance_model
from service.local.sandbox.model import object_id
from service.local.sandbox.people import PersonGenerator, draw_team

if TYPE_CHECKING:
    from random import Random

    from service.local.sandbox.model import Clock
    from service.local.sandbox.switches import Switches
    from service.local.sandbox.vendor import Vendor

# Other events at a birth, by chance: another person picks a new favourite, or is deleted.
FAVORITES_PER_BIRTH = 0.3
DELETIONS_PER_BIRTH = 0.1
DEVELOPMENT_SHARE = 0.5
# Above this number of live models each birth comes with a deletion, so that a sandbox may run for weeks.
MAX_LIVE_MODELS = 20_000


class LifeSimulator:
    """Moves the vendor on; asked again and again, it does what has become due since."""

    def __init__(self, vendor: Vendor, switches: Switches, rng: Random, clock: Clock) -> None:
        self._vendor = vendor
        self._switches = switches
        self._rng = rng
        self._clock = clock
        self._people = PersonGenerator(rng, vendor.account.organization.domain)
        self._born_until = clock()

    def advance(self) -> None:
        """Everything that is due by now; nothing while the switch `quiet` is on."""
        now, switches = self._clock(), self._switches
        if switches.quiet:
            self._born_until = now
            return
        for model in self._vendor.pop_due(now):
            self._vendor.put(advance_model(model, now, self._rng, switches.speed, switches.failure_rate))
        self._create_and_delete(now)

    def drift(self) -> None:
        """One to three changes of the list: a new model, a deletion, or a model that vanishes without a webhook."""
        for _ in range(self._rng.randint(1, 3)):
            happens = self._rng.choice((self._birth, self._birth, self._deletion, self._vanishing))
            happens()

    def _create_and_delete(self, now: int) -> None:
        if self._switches.births == 0:
            self._born_until = now
            return
        interval = max(1, int(60_000 / self._switches.births))
        while self._born_until + interval <= now:
            self._born_until += interval
            self._birth()
            if self._rng.random() < FAVORITES_PER_BIRTH:
                self._favorite()
            if len(self._vendor.emails) > MAX_LIVE_MODELS or self._rng.random() < DELETIONS_PER_BIRTH:
                self._deletion()

    def _birth(self) -> None:
        person = self._people.draw(self._vendor.emails)
        team_id = draw_team(self._vendor.account.organization, self._rng)
        is_development = self._rng.random() < DEVELOPMENT_SHARE
        self._vendor.put(self._vendor.new_model(person, team_id, is_development=is_development, created=self._clock()))

    def _deletion(self) -> None:
        model = self._vendor.listing.pick(self._rng)
        if model is not None:
            self._vendor.delete(model.id)

    def _vanishing(self) -> None:
        model = self._vendor.listing.pick(self._rng)
        if model is not None:
            self._vendor.vanish(model)

    def _favorite(self) -> None:
        model = self._vendor.listing.pick(self._rng)
        if model is not None and model.status == "active":
            self._vendor.put(replace(model, favorite_photo_id=object_id(self._rng, self._clock())))

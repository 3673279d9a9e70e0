"""A list that changes while it is read, and a pull that walks over it: for the tests of the walk, without sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import msgspec

from service.mirror.walk import (
    MAX_WALKS,
    PAGE_SIZE,
    Walk,
    WalkPage,
    failure_reason,
    follow,
    next_walk,
    proves_complete,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)


@dataclass
class Vendor:
    """A list of models in some order.

    Attributes:
        ids: in the list's order.
        limit: the vendor clamps pages to it.
        born: creation times.
        change: what happens to the list between two requests.
        requests: how many were answered.
        stayed: the models that were in the list all the time.
        newcomers: for each request, the number of models created since the one before.
    """

    ids: list[str]
    limit: int = PAGE_SIZE
    born: dict[str, datetime] = field(default_factory=dict)
    change: Callable[[Vendor], None] | None = None
    requests: int = 0

    def __post_init__(self) -> None:
        self.stayed = set(self.ids)
        self.newcomers: list[int] = []

    def page(self, offset: int) -> WalkPage:
        """Answer a request for `PAGE_SIZE` models."""
        known = len(self.born)
        if self.requests and self.change:
            self.change(self)
            self.stayed &= set(self.ids)
        self.newcomers.append(len(self.born) - known)
        self.requests += 1
        size = min(PAGE_SIZE, self.limit)
        ids = self.ids[offset : offset + size]
        created = [self.born[model_id] for model_id in ids]
        return WalkPage(ids, created, len(self.ids), len(ids) >= size, offset + size < len(self.ids), NOON)

    def kept_up_with(self, stride: int) -> bool:
        """Whether the list grew as fast as a walk that goes on by `stride` places, over its last two pages or more.

        Created ahead of the walk, the new models push all that it has read on before it.
        """
        requests = len(self.newcomers)
        return any(sum(self.newcomers[first:]) >= stride * (requests - first) for first in range(requests - 1))


def names(count: int) -> list[str]:
    """Ids in the order of creation."""
    return [f"m{number:06}" for number in range(count)]


def vendor_of(ids: list[str], limit: int = PAGE_SIZE, change: Callable[[Vendor], None] | None = None) -> Vendor:
    """A vendor whose models were created a second apart, in the order of their ids."""
    born = {model_id: NOON + timedelta(seconds=int(model_id[1:])) for model_id in ids}
    return Vendor(ids, limit, born, change)


@dataclass
class PullOutcome:
    """The end of a pull: its last walk, all models it saw, and the reason where it failed by itself."""

    walk: Walk
    met: set[str]
    proved: bool
    failure_reason: str | None = None


def pull(vendor: Vendor) -> PullOutcome:
    """Walk as a full pull does, until a walk proves something or the last one is over."""
    walk, met = Walk(), set[str]()
    while True:
        met_now, seen = set[str](), set[str]()
        while not walk.ended:
            # A checkpoint is JSON; the walk goes on from it in another process.
            walk = msgspec.convert(msgspec.to_builtins(walk), Walk)
            page = vendor.page(walk.offset)
            new = len(set(page.ids) - met)
            met |= set(page.ids)
            met_now |= set(page.ids)
            walk = follow(walk, page, seen, new)
            assert vendor.requests < 20_000, "it does not end"
        if reason := failure_reason(walk, len(met_now)):
            return PullOutcome(walk, met, proved=False, failure_reason=reason)
        if proves_complete(walk, len(met_now)):
            return PullOutcome(walk, met, proved=True)
        if walk.number == MAX_WALKS:
            return PullOutcome(walk, met, proved=False)
        walk = next_walk(walk)


class Churn:
    """Models come and go between two requests, a bounded number of times; new ones take their place in the order."""

    def __init__(self, seed: int, order: str) -> None:
        self.rng = Random(seed)
        self.order = order
        self.left = 40
        self.titles = Random(seed + 1)

    def start(self, count: int) -> list[str]:
        """The ids in the order's sequence."""
        ids = names(count)
        return {"newest": ids[::-1], "oldest": ids, "title": self.titles.sample(ids, len(ids))}[self.order]

    def __call__(self, vendor: Vendor) -> None:
        if self.left == 0 or self.rng.random() < 0.5:
            return
        self.left -= 1
        for _ in range(self.rng.choice((0, 1, 3, 15, 60, 150))):
            if vendor.ids:
                self._leave(vendor)
        for _ in range(self.rng.choice((0, 1, 3, 15))):
            self._come(vendor)

    def _leave(self, vendor: Vendor) -> None:
        # Half of the time from the head, where it shifts whatever is still to come.
        place = self.rng.randrange(len(vendor.ids)) if self.rng.random() < 0.5 else 0
        del vendor.ids[place]

    def _come(self, vendor: Vendor) -> None:
        number = len(vendor.born)
        newcomer = f"m{number:06}"
        vendor.born[newcomer] = NOON + timedelta(seconds=number)
        places = {"newest": 0, "oldest": len(vendor.ids), "title": self.rng.randint(0, len(vendor.ids))}
        vendor.ids.insert(places[self.order], newcomer)

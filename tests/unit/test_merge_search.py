"""The search: random histories of a hostile vendor, and the mirror has to end as the truth, in every field it was told.

By hand, for longer: `python -m tests.unit.test_merge_search FIRST_SEED HOW_MANY`.
"""

from __future__ import annotations

import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from service.mirror.merge import CORE, DELETED, DETAIL, PROFILE
from tests.support.memory_mirror import MemoryMirror
from tests.support.world import detailed_model, draw_world

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.world import World

SETTLED = 2_000


def wrong(mirror: MemoryMirror, names: Iterable[str], after: str) -> list[str]:
    """The fields of the mirrored row that are not the truth's, in words."""
    truth = detailed_model(mirror.world.truth)
    row = mirror.row
    if row is None:
        return []
    if truth.status == DELETED:
        found = [] if row["status"] == DELETED else [f"{after}: status is {row['status']!r}, and it is gone"]
        if row["status"] == DELETED and row["deleted_at"] is None:
            found.append(f"{after}: no deletion time")
        return found
    if row["deleted_at"] is not None:
        return [f"{after}: it is buried alive"]
    return [
        f"{after}: {name} is {row[name]!r}, not {getattr(truth, name)!r}"
        for name in names
        if row[name] != getattr(truth, name)
    ]


def told(world: World) -> list[str]:
    """Core fields whose last change was told by some event that was delivered."""
    names = []
    for name in CORE:
        last = max(
            (n for n, change in enumerate(world.changes)
             if n == 0 or _core(change.state, name) != _core(world.changes[n - 1].state, name)),
        )
        if any(delivery.change >= last and _holds(delivery, name) for delivery in world.deliveries):
            names.append(name)
    return names


def _core(state, name):
    return getattr(detailed_model(state), name)


def _holds(delivery, name):
    from msgspec import UNSET

    return getattr(delivery.model, name) is not UNSET


def search(seed: int) -> tuple[World, MemoryMirror, list[str]]:
    """Run one history; what is wrong at its ends."""
    rng = Random(seed)
    world = draw_world(rng)
    mirror = MemoryMirror(world)
    for delivery in world.deliveries:
        mirror.at(delivery.arrives, lambda delivery=delivery: mirror.deliver(delivery))
    for what in (mirror.full_pull, mirror.hot_pull, mirror.sweep):
        for _ in range(rng.randint(0, 3)):
            mirror.at(rng.randint(0, world.quiet_from + 2_000), what)
    mirror.run()
    names = told(world)
    death_told = world.truth.status != DELETED or any(
        d.envelope.event == "model.deleted" for d in world.deliveries)
    found = wrong(mirror, names, "webhooks and questions") if death_told else []
    mirror.now = max(mirror.now, world.quiet_from + SETTLED)
    mirror.log.append("--- full pull")
    mirror.at(mirror.now, mirror.full_pull)
    mirror.run()
    found += wrong(mirror, (*CORE, *PROFILE), "full pull")
    if world.state(0) and not world.truth.gone and mirror.row is None:
        found.append("full pull: it is not in the mirror")
    mirror.at(mirror.now, mirror.sweep)
    mirror.run()
    found += wrong(mirror, (*CORE, *PROFILE, *DETAIL), "detail")
    if mirror.wish_due is not None and world.truth.status != DELETED:
        found.append("a question is left")
    return world, mirror, found


def explain(seed: int) -> str:
    """Everything about one history."""
    world, mirror, found = search(seed)
    changes = [f"{c.at:>7} {c.state.status} {c.state.title!r} {c.events}" for c in world.changes]
    deliveries = [f"{d.arrives:>7} {d.envelope.event} {d.envelope.created_at} signed {d.signed_at} {d.model}"
                  for d in sorted(world.deliveries, key=lambda d: d.arrives)]
    return "\n".join([f"seed {seed}: {found}", str(world.habits), *changes, *deliveries, *mirror.log])


if __name__ == "__main__":
    first, many = int(sys.argv[1]), int(sys.argv[2])
    kinds = Counter()
    by_habit = Counter()
    gets = 0
    examples = {}
    for seed in range(first, first + many):
        world, mirror, found = search(seed)
        gets += mirror.gets
        for words in found[:1]:
            kind = words.split(" is ")[0]
            kinds[kind] += 1
            h = world.habits
            key = (kind.split(":")[0], f"skew={h.skew>0}", f"lag={h.lag>0}", f"bare={h.bare}", f"absent={h.absent}")
            by_habit[key] += 1
            examples.setdefault(key, []).append(seed)
    print("violations", sum(kinds.values()), "of", many, "gets/history", gets / many)
    for k, n in kinds.most_common(): print(n, k)
    for k, n in by_habit.most_common(40): print(n, k, examples[k][:4])

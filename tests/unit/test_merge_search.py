"""The search: random histories of a hostile vendor, and the mirror has to end as the truth, in every field it was told.

By hand, for longer: `python -m tests.unit.test_merge_search FIRST_SEED HOW_MANY`.
"""

from __future__ import annotations

import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from service.mirror.merge import CORE, DELETED, DETAIL, PROFILE
from service.mirror.observe import ASKING_EVENTS
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


def told(world: World, mirror: MemoryMirror) -> list[str]:
    """Fields whose last change was told by some event that was delivered, or by an answer that was merged."""
    return [name for name in (*CORE, *PROFILE, *DETAIL) if _told(world, mirror, name)]


def _told(world: World, mirror: MemoryMirror, name: str) -> bool:
    values = [getattr(detailed_model(change.state), name) for change in world.changes]
    last = max((n for n in range(1, len(values)) if values[n] != values[n - 1]), default=0)
    newest = [delivery for delivery in world.deliveries if delivery.change >= last]
    if name in CORE and any(_holds(delivery, name) for delivery in newest):
        return True
    if name in DETAIL and any(delivery.envelope.event in ASKING_EVENTS for delivery in newest):
        return True
    return (mirror.read_single if name in DETAIL else mirror.read) >= world.changes[last].at


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
    if rng.random() < 0.5:
        mirror.at(5_000, mirror.full_pull)
    most = rng.choice((0, 0, 1, 2))
    for what in (mirror.full_pull, mirror.hot_pull, mirror.sweep):
        for _ in range(rng.randint(0, most)):
            mirror.at(rng.choice(world.changes).at + rng.randint(-1_000, 4_000), what)
    mirror.run()
    names = told(world, mirror)
    death_told = world.truth.status != DELETED or any(
        d.envelope.event == "model.deleted" for d in world.deliveries) or mirror.read >= world.quiet_from
    found = wrong(mirror, names, "webhooks and questions") if death_told and world.habits.outage == (0, 0) else []
    calm = max(world.quiet_from, world.habits.outage[1]) + SETTLED
    mirror.now = max(mirror.now, calm)
    mirror.log.append("--- full pull")
    mirror.at(mirror.now, mirror.full_pull)
    mirror.run()
    if world.truth.status != DELETED:
        found += wrong(mirror, (*CORE, *PROFILE), "full pull")
    mirror.now = max(mirror.now, calm+15_000)
    mirror.log.append("--- full pull")
    mirror.at(mirror.now, mirror.full_pull)
    mirror.run()
    found += wrong(mirror, (*CORE, *PROFILE), "second full pull")
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

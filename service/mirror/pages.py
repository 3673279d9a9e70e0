"""Pages of a pull into the mirror: what is new and what is as it was by sets, and only the rest model by model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import UNSET, Struct
from msgspec.structs import asdict, astuple

from service.mirror.apply import Applied, Sighting, apply
from service.mirror.merge import DELETED
from service.mirror.observe import from_list
from service.storage import pages, refetches

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection

    from service.mirror.prefetch import Read
    from service.upstream.payloads import ListedModel


class Found(NamedTuple):
    """What pages told: models that the pull met for the first time, and what became of them."""

    new: int
    inserted: int
    changed: int
    tombstoned: int


def merge_pages(connection: Connection, reads: Sequence[Read], pull_id: int, began_at: datetime) -> Found:
    """Merge pages into the stored rows, to the same end as `apply` would, model by model.

    Steps: insert who is unknown; lock the clocks of the others in id order, and move those of models that are as they
    were; apply the rest; settle the questions for a profile; last, begin the histories of the inserted ones.

    Args:
        connection: a transaction; the caller commits, soon.
        reads: pages in the order in which they were read.
        pull_id: of the pull that reads them.
        began_at: upstream time of its first page.
    """
    now = datetime.now(UTC)
    told, disputed = _told(reads)
    ids = sorted({*told, *(telling.model.id for telling in disputed)})
    met = pages.confirm(connection, _shown(reads, told.values()), ids, began_at)
    newcomers = [_newcomer(model_id, told.get(model_id)) for model_id in sorted(met.missing)]
    added: set[str] = set()
    if newcomers:
        added = pages.add(connection, newcomers, now)
        known = [telling for model_id, telling in told.items() if model_id not in added]
        met = pages.confirm(connection, _shown(reads, known), [one for one in ids if one not in added], began_at)
    left = [told[model_id] for model_id in met.unconfirmed]
    whole = [telling for telling in left if UNSET not in astuple(telling.model)]
    newest = pages.surely_newest(connection, _shown(reads, whole)) if whole else set()
    applied = _apply(connection, [*left, *disputed], pull_id, now)
    # So the next pull need not apply them again.
    if marked := [telling for telling in whole if telling.model.id in newest]:
        pages.mark(connection, _shown(reads, marked))
    refetches.settle_profiles(connection, ids)
    if added:
        beginnings = [_beginning(row) for row in newcomers if row["id"] in added]
        pages.begin_histories(connection, beginnings, pull_id, now)
    return Found(
        met.new + len(added), len(applied.inserted) + len(added), len(applied.changed), len(applied.tombstoned)
    )


class _Telling(Struct, frozen=True, gc=False):
    """What a page tells of a model, the place of the page, and a mark of all that it tells."""

    model: ListedModel
    read: Read
    place: int
    mark: int


def _told(reads: Sequence[Read]) -> tuple[dict[str, _Telling], list[_Telling]]:
    """What pages tell of each model, the last of them where they agree; apart, all of models on which they do not."""
    told: dict[str, _Telling] = {}
    disputed: list[_Telling] = []
    for place, read in enumerate(reads):
        for model, mark in zip(read.models, read.marks, strict=True):
            before = told.get(model.id)
            told[model.id] = telling = _Telling(model, read, place, mark)
            if before is not None and before.mark != mark:
                disputed += [before, telling]
    for telling in disputed:
        told.pop(telling.model.id, None)
    return told, disputed


def _newcomer(model_id: str, telling: _Telling | None) -> dict[str, Any]:
    """A first row; of a model about which more is to be said only the id, which makes its clocks."""
    row = asdict(telling.model) if telling else {"status": None}
    if telling is None or UNSET in row.values() or row["status"] in (None, "", DELETED):
        return {"id": model_id}
    read = telling.read
    return {**row, "at": read.page.sent_at, "until": _until(read), "mark": telling.mark}


def _beginning(row: dict[str, Any]) -> dict[str, Any]:
    """The first change of a model, out of its first row."""
    changed = {name: (None, _plain(row[name])) for name in pages.TOLD if row[name] is not None}
    return {"id": row["id"], "status": row["status"], "at": row["at"], "changed": changed}


def _shown(reads: Sequence[Read], tellings: Collection[_Telling]) -> pages.Shown:
    return pages.Shown(
        ids=[telling.model.id for telling in tellings],
        marks=[telling.mark for telling in tellings],
        gone=[telling.model.status == DELETED for telling in tellings],
        pages=[telling.place for telling in tellings],
        ats=[read.page.sent_at for read in reads],
        untils=[_until(read) for read in reads],
    )


def _apply(connection: Connection, tellings: Sequence[_Telling], pull_id: int, now: datetime) -> Applied:
    """Model by model."""
    sightings = [
        Sighting(from_list(one.model, one.read.page.sent_at, one.read.answered_at), "pull", pull_id=pull_id)
        for one in tellings
    ]
    return apply(connection, sightings, now) if sightings else Applied(news=[])


def _until(read: Read) -> datetime | None:
    return read.answered_at if read.answered_at > read.page.sent_at else None


def _plain(value: Any) -> Any:
    """A field as the history holds it."""
    return value.isoformat() if isinstance(value, datetime) else value

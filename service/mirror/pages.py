"""Pages of a pull into the mirror: what is new and what is as it was by sets, and only the rest model by model."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, astuple

from service.mirror.apply import Sighting, apply
from service.mirror.merge import DELETED
from service.mirror.observe import from_list
from service.storage import pages, wishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from service.mirror.ahead import Read
    from service.upstream.payloads import ListedModel

_ENCODER = msgspec.json.Encoder()


class Found(NamedTuple):
    """What pages told: models that the pull met for the first time, and what became of them."""

    new: int
    inserted: int
    changed: int
    tombstoned: int


def merge_pages(connection: Connection, reads: Sequence[Read], pull_id: int, began_at: datetime) -> Found:
    """Merge pages into the stored rows, to the same end as `apply` would, model by model.

    Steps: insert who is unknown; lock the clocks of all in id order; move the clocks of those that are as they were;
    apply the others; settle the questions for a profile; last, begin the histories of the inserted ones.

    Args:
        connection: a transaction; the caller commits, soon.
        reads: pages in the order in which they were read.
        pull_id: of the pull that reads them.
        began_at: upstream time of its first page.
    """
    now = datetime.now(UTC)
    ids = sorted({model_id for read in reads for model_id in read.page.ids})
    newcomers = _newcomers(reads, pages.missing(connection, ids))
    added = pages.add(connection, newcomers, now) if newcomers else set()
    new = len(added) + pages.lock(connection, ids, began_at)
    others = _others(connection, reads, added)
    applied = apply(connection, [sighting for other in others for sighting in _sightings(*other, pull_id)], now)
    for read, models in others:
        whole = [model for model in models if UNSET not in astuple(model)]
        if whole and _is_clear(read):
            pages.mark(connection, _shown(read, whole))
    wishes.settle_profiles(connection, ids)
    if added:
        pages.begin_histories(connection, newcomers, added, pull_id, now)
    return Found(new, len(applied.inserted) + len(added), len(applied.changed), len(applied.tombstoned))


def _newcomers(reads: Sequence[Read], unknown: set[str]) -> list[dict[str, Any]]:
    """Models that were met for the first time, as the first of the pages shows them; in id order."""
    found: dict[str, dict[str, Any]] = {}
    for read in reads if unknown else ():
        for model, mark in zip(read.models, _marks(read.models), strict=True):
            if model.id in unknown and model.id not in found:
                found[model.id] = _newcomer(model, mark, read)
    return [found[model_id] for model_id in sorted(found)]


def _newcomer(model: ListedModel, mark: int, read: Read) -> dict[str, Any]:
    """A first row; of a model about which more is to be said only the id, which makes its clocks."""
    row = asdict(model)
    if UNSET in row.values() or row["status"] in (None, DELETED):
        return {"id": model.id}
    changed = {name: (None, _plain(row[name])) for name in pages.TOLD if row[name] is not None}
    return {**row, "at": read.page.sent_at, "until": _until(read), "mark": mark, "changed": changed}


def _others(connection: Connection, reads: Sequence[Read], added: set[str]) -> list[tuple[Read, list[ListedModel]]]:
    """What is left of pages when the models that are new or as they were are in the mirror."""
    fresh, others = set(added), []
    for read in reads:
        # Whom one page brought, the next may show again.
        known = [model for model in read.models if model.id not in fresh]
        fresh.difference_update(read.page.ids)
        left = pages.confirm(connection, _shown(read, known)) if _is_clear(read) else set(read.page.ids)
        if left:
            others.append((read, [model for model in known if model.id in left]))
    return others


def _is_clear(read: Read) -> bool:
    """Whether a page shows each model once: else it may contradict itself."""
    return len(set(read.page.ids)) == len(read.page.ids)


def _shown(read: Read, models: Sequence[ListedModel]) -> pages.Shown:
    """Models of a page by the marks of what it tells."""
    return pages.Shown(
        ids=[model.id for model in models],
        marks=_marks(models),
        gone=[model.status == DELETED for model in models],
        at=read.page.sent_at,
        until=_until(read),
    )


def _marks(models: Sequence[ListedModel]) -> list[int]:
    """A digest for each model of all that a page tells of it: it is held against that of the same model alone."""
    lines = _ENCODER.encode_lines(models).split(b"\n")
    return [int.from_bytes(blake2b(line, digest_size=8).digest(), signed=True) for line in lines[: len(models)]]


def _sightings(read: Read, models: Sequence[ListedModel], pull_id: int) -> list[Sighting]:
    return [
        Sighting(from_list(model, read.page.sent_at, read.answered_at), "pull", pull_id=pull_id) for model in models
    ]


def _until(read: Read) -> datetime | None:
    return read.answered_at if read.answered_at > read.page.sent_at else None


def _plain(value: Any) -> Any:
    """A field as the history holds it."""
    return value.isoformat() if isinstance(value, datetime) else value

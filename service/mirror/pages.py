"""Pages of a pull into the mirror: what is new and what is as it was by sets, and only the rest model by model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET

from service.mirror.apply import Sighting, apply
from service.mirror.merge import DELETED
from service.mirror.observe import from_list
from service.storage import pages, wishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from service.mirror.ahead import Read
    from service.upstream.payloads import ListedModel


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
    unknown = pages.missing(connection, ids)
    newcomers = _newcomers(reads, unknown) if unknown else ""
    added = pages.add(connection, newcomers, now) if unknown else set()
    new = len(added) + pages.lock(connection, ids, began_at)
    applied = apply(connection, _differing(connection, reads, added, pull_id), now)
    wishes.settle_profiles(connection, ids)
    if added:
        pages.begin_histories(connection, newcomers, added, pull_id, now)
    return Found(new, len(applied.inserted) + len(added), len(applied.changed), len(applied.tombstoned))


def _newcomers(reads: Sequence[Read], unknown: set[str]) -> str:
    """Models that were met for the first time, as the first of the pages shows them; in id order."""
    found: dict[str, dict[str, Any]] = {}
    for read in reads:
        for model in read.models:
            if model.id in unknown and model.id not in found:
                found[model.id] = _newcomer(model, read)
    return msgspec.json.encode([found[model_id] for model_id in sorted(found)]).decode()


def _newcomer(model: ListedModel, read: Read) -> dict[str, Any]:
    """A first row; of a model about which more is to be said only the id, which makes its clocks."""
    row = _row(model)
    if row is None or row["status"] == DELETED:
        return {"id": model.id}
    changed = {name: (None, _plain(row[name])) for name in pages.TOLD if row[name] is not None}
    return {**row, "at": read.page.sent_at, "until": _until(read), "changed": changed}


def _differing(connection: Connection, reads: Sequence[Read], added: set[str], pull_id: int) -> list[Sighting]:
    """What is left when the clocks of all models that are as they were have been moved."""
    fresh, found = set(added), list[Sighting]()
    for read in reads:
        shown = [model for model in read.models if model.id not in fresh]
        fresh.difference_update(read.page.ids)
        others = _confirm(connection, read, shown) if shown else set()
        found.extend(
            Sighting(from_list(model, read.page.sent_at, read.answered_at), "pull", pull_id=pull_id)
            for model in shown
            if model.id in others
        )
    return found


def _confirm(connection: Connection, read: Read, shown: Sequence[ListedModel]) -> set[str]:
    """Move the clocks of models that are as they were; the ids of the others."""
    rows = {model.id: _row(model) for model in shown}
    # A page that shows a model twice may contradict itself.
    if len(rows) < len(shown):
        return set(rows)
    whole = {model_id: row for model_id, row in rows.items() if row is not None}
    text = msgspec.json.encode(list(whole.values())).decode()
    others = pages.confirm(connection, whole, text, read.page.sent_at, _until(read))
    return others | (rows.keys() - whole.keys())


def _row(model: ListedModel) -> dict[str, Any] | None:
    """The fields of a model; None where the page does not tell all of them."""
    row = msgspec.structs.asdict(model)
    return None if row["status"] is None or UNSET in row.values() else row


def _until(read: Read) -> datetime | None:
    return read.answered_at if read.answered_at > read.page.sent_at else None


def _plain(value: Any) -> Any:
    """A field as the history holds it."""
    return value.isoformat() if isinstance(value, datetime) else value

"""Pages of a pull into the mirror: what is new and what is as it was by sets, and only the rest model by model.

Why: `docs/decisions/0015-pulls-by-sets.md`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import UNSET, Struct
from msgspec.structs import asdict, astuple

from service.mirror.apply import BatchResult, apply
from service.mirror.census import KnownAsOf, difference_row
from service.mirror.observe import from_list
from service.model_fields import DELETED
from service.storage import accuracy, history, pages, refetches

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection

    from service.mirror.prefetch import FetchedPage
    from service.upstream.payloads import ListedModel


class PagesResult(NamedTuple):
    """The result of pages: how many models the pull saw for the first time, and what the merge did with them."""

    new: int
    inserted: int
    changed: int
    tombstoned: int


def merge_pages(
    connection: Connection, fetched_pages: Sequence[FetchedPage], pull_id: int, began_at: datetime
) -> PagesResult:
    """Merge pages into the stored rows, to the same end as `apply` would, model by model.

    Steps: insert the unknown models; lock the clocks of the others in id order, and move those of unchanged models;
    apply the rest; remove the refetch requests for a profile; last, begin the histories of the inserted ones.

    Args:
        connection: a transaction; the caller commits, soon.
        fetched_pages: pages in the order in which they were read.
        pull_id: of the pull that reads them.
        began_at: upstream time of its first page.
    """
    now = datetime.now(UTC)
    agreed, disputed = _group_by_model(fetched_pages)
    ids = sorted({*agreed, *(listed.model.id for listed in disputed)})
    confirmed = pages.confirm(connection, _shown(fetched_pages, agreed.values()), ids, began_at)
    new_models = [_new_model_row(model_id, agreed.get(model_id)) for model_id in sorted(confirmed.missing)]
    added: set[str] = set()
    if new_models:
        added = pages.add(connection, new_models, now)
        known = [listed for model_id, listed in agreed.items() if model_id not in added]
        confirmed = pages.confirm(
            connection, _shown(fetched_pages, known), [one for one in ids if one not in added], began_at
        )
    left = [agreed[model_id] for model_id in confirmed.unconfirmed]
    whole = [listed for listed in left if UNSET not in astuple(listed.model)]
    newest = pages.surely_newest(connection, _shown(fetched_pages, whole)) if whole else set()
    applied = _apply(connection, [*left, *disputed], pull_id, now)
    # So the next pull need not apply them again.
    if won := [listed for listed in whole if listed.model.id in newest]:
        pages.save_digests(connection, _shown(fetched_pages, won))
    refetches.complete_profiles(connection, ids)
    if added:
        inserted = [row for row in new_models if row["id"] in added]
        accuracy.record(connection, [_missing_row(row, pull_id, now) for row in inserted])
        history.append(connection, [_first_change(row, pull_id) for row in inserted], now)
    return PagesResult(
        confirmed.new + len(added), len(applied.inserted) + len(added), len(applied.changed), len(applied.tombstoned)
    )


class _ListedModelOnPage(Struct, frozen=True, gc=False):
    """A model's record on a page, the place of the page, and a digest of the record."""

    model: ListedModel
    read: FetchedPage
    place: int
    digest: int


def _group_by_model(
    fetched_pages: Sequence[FetchedPage],
) -> tuple[dict[str, _ListedModelOnPage], list[_ListedModelOnPage]]:
    """The last record of each model whose records agree; apart, all records of models whose records do not."""
    agreed: dict[str, _ListedModelOnPage] = {}
    disputed: list[_ListedModelOnPage] = []
    for place, read in enumerate(fetched_pages):
        for model, digest in zip(read.models, read.digests, strict=True):
            before = agreed.get(model.id)
            agreed[model.id] = listed = _ListedModelOnPage(model, read, place, digest)
            if before is not None and before.digest != digest:
                disputed += [before, listed]
    for listed in disputed:
        agreed.pop(listed.model.id, None)
    return agreed, disputed


def _new_model_row(model_id: str, listed: _ListedModelOnPage | None) -> dict[str, Any]:
    """A first row; only the id, which makes its clocks, where `apply` has to merge the model."""
    row = asdict(listed.model) if listed else {"status": None}
    if listed is None or UNSET in row.values() or row["status"] in (None, "", DELETED):
        return {"id": model_id}
    read = listed.read
    return {**row, "at": read.page.sent_at, "until": _until(read), "digest": listed.digest}


def _first_change(row: dict[str, Any], pull_id: int) -> dict[str, Any]:
    """The first change of a model, out of its first row."""
    changed = {name: (None, row[name]) for name in pages.PAGE_COLUMNS if row[name] is not None}
    return history.change_row(row["id"], changed, "pull", row["at"], pull_id=pull_id)


def _missing_row(row: dict[str, Any], pull_id: int, now: datetime) -> dict[str, Any]:
    """A model that the mirror did not know, as a row of `accuracy_checks`."""
    changed = {name: (None, row[name]) for name in pages.PAGE_COLUMNS if row[name] is not None}
    difference = difference_row(row["id"], None, KnownAsOf(None, None), changed, now, pull_id=pull_id)
    assert difference is not None, "a first row has a status"
    return difference


def _shown(fetched_pages: Sequence[FetchedPage], listed_models: Collection[_ListedModelOnPage]) -> pages.ShownModels:
    return pages.ShownModels(
        ids=[listed.model.id for listed in listed_models],
        digests=[listed.digest for listed in listed_models],
        gone=[listed.model.status == DELETED for listed in listed_models],
        pages=[listed.place for listed in listed_models],
        ats=[read.page.sent_at for read in fetched_pages],
        untils=[_until(read) for read in fetched_pages],
    )


def _apply(
    connection: Connection, listed_models: Sequence[_ListedModelOnPage], pull_id: int, now: datetime
) -> BatchResult:
    """Model by model."""
    if not listed_models:
        return BatchResult(contributed=[])
    observations = [from_list(one.model, one.read.page.sent_at, one.read.received_at) for one in listed_models]
    return apply(connection, observations, "pull", pull_id=pull_id, now=now)


def _until(read: FetchedPage) -> datetime | None:
    return read.received_at if read.received_at > read.page.sent_at else None

"""Pages of a pull into the mirror: what is new and what is as it was by sets, and only the rest model by model.

Why: `docs/decisions/0015-pulls-by-sets.md`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct
from msgspec.structs import asdict

from service.mirror.apply import BatchResult, apply
from service.mirror.census import KnownAsOf, difference_row
from service.mirror.digest import LIST_COLUMNS
from service.mirror.observe import from_list
from service.storage import accuracy, history, pages, pulls, refetches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from service.mirror.prefetch import FetchedPage
    from service.upstream.payloads import ListedModel


# Earlier than any page.
_NEVER = datetime.min.replace(tzinfo=UTC)


class PagesResult(NamedTuple):
    """The result of pages: how many models the pull saw for the first time, and what the merge did with them."""

    new: int
    inserted: int
    changed: int
    tombstoned: int


def merge_pages(
    connection: Connection, fetched_pages: Sequence[FetchedPage], pull_id: int, began_at: datetime
) -> PagesResult:
    """Merge pages into the stored rows, with the same result as `apply` for each model.

    Steps: insert the unknown models; lock the clocks of the others in id order, and move those of unchanged models;
    apply the rest; remove the refetch requests for a profile; last, begin the histories of the inserted ones.

    Args:
        connection: a transaction; the caller commits, soon.
        fetched_pages: pages in the order in which they were read.
        pull_id: of the pull that reads them.
        began_at: upstream time of its first page.
    """
    now = datetime.now(UTC)
    shown = _by_model(fetched_pages)
    added: list[dict[str, Any]] = []
    known = _confirm(connection, fetched_pages, shown, began_at)
    if known.missing:
        new_models = [_new_model(model_id, shown[model_id], fetched_pages) for model_id in sorted(known.missing)]
        inserted = pages.add(connection, new_models, now)
        added = [row for row in new_models if row["id"] in inserted]
        rest = {model_id: one for model_id, one in shown.items() if model_id not in inserted}
        known = _confirm(connection, fetched_pages, rest, began_at)
    # Here all clocks are locked, and `known.unconfirmed` are the models whose rows these pages may change.
    unconfirmed = [record for model_id in known.unconfirmed for record in shown[model_id].records]
    applied = _apply(connection, unconfirmed, pull_id, now)
    if added or known.unconfirmed or known.profiles:
        refetches.complete_profiles(connection, sorted(shown))
    if added:
        # Before the first complete pull everything is missing, and that is no error of the mirror.
        if pulls.any_complete(connection):
            accuracy.record(connection, [_missing_row(row, pull_id, now) for row in added])
        history.append(connection, [_first_change(row, pull_id) for row in added], now)
    return PagesResult(
        known.new + len(added), len(applied.inserted) + len(added), len(applied.changed), len(applied.tombstoned)
    )


class _ShownModel(Struct, frozen=True, gc=False):
    """A model on pages: numbers of pages, the digest that all its records share, and the records.

    Attributes:
        oldest: the page that holds from the earliest time.
        newest: the page that holds from the latest time.
        widest: the page that may have been read the latest.
        digest: None where its records have none, or differ.
    """

    oldest: int
    newest: int
    widest: int
    digest: int | None
    records: tuple[tuple[ListedModel, FetchedPage], ...]


def _by_model(fetched_pages: Sequence[FetchedPage]) -> dict[str, _ShownModel]:
    """Each model once: pages overlap."""
    ats = [read.page.sent_at for read in fetched_pages]
    untils = [_until(read) or _NEVER for read in fetched_pages]
    shown: dict[str, _ShownModel] = {}
    for place, read in enumerate(fetched_pages):
        for model, digest in zip(read.models, read.digests, strict=True):
            one = _ShownModel(place, place, place, digest, ((model, read),))
            if before := shown.get(model.id):
                one = _ShownModel(
                    min(before.oldest, place, key=ats.__getitem__),
                    max(before.newest, place, key=ats.__getitem__),
                    max(before.widest, place, key=untils.__getitem__),
                    digest if digest == before.digest else None,
                    (*before.records, *one.records),
                )
            shown[model.id] = one
    return shown


def _confirm(
    connection: Connection, fetched_pages: Sequence[FetchedPage], shown: dict[str, _ShownModel], began_at: datetime
) -> pages.KnownModels:
    if not shown:
        return pages.KnownModels(set(), 0, set())
    found = pages.ShownModels(
        ids=list(shown),
        digests=[one.digest for one in shown.values()],
        newest=[one.newest for one in shown.values()],
        widest=[one.widest for one in shown.values()],
        ats=[read.page.sent_at for read in fetched_pages],
        untils=[_until(read) for read in fetched_pages],
    )
    return pages.confirm(connection, found, began_at)


def _new_model(model_id: str, shown: _ShownModel, fetched_pages: Sequence[FetchedPage]) -> dict[str, Any]:
    """A first row; only the id, which makes its clocks, where `apply` has to merge the model."""
    if shown.digest is None:
        return {"id": model_id}
    oldest, newest, widest = (fetched_pages[page] for page in (shown.oldest, shown.newest, shown.widest))
    return {
        **asdict(shown.records[0][0]),
        "observed_at": oldest.page.sent_at,
        "at": newest.page.sent_at,
        "until": _until(widest),
        "digest": shown.digest,
    }


def _first_change(row: dict[str, Any], pull_id: int) -> dict[str, Any]:
    """The first change of a model, out of its first row."""
    return history.change_row(row["id"], _first_values(row), "pull", row["observed_at"], pull_id=pull_id)


def _missing_row(row: dict[str, Any], pull_id: int, now: datetime) -> dict[str, Any]:
    """A model that the mirror did not know, as a row of `accuracy_checks`."""
    difference = difference_row(row["id"], None, KnownAsOf(None, None), _first_values(row), now, pull_id=pull_id)
    assert difference is not None, "a first row has a status"
    return difference


def _first_values(row: dict[str, Any]) -> dict[str, tuple[None, Any]]:
    return {name: (None, row[name]) for name in LIST_COLUMNS if row[name] is not None}


def _apply(
    connection: Connection, records: Iterable[tuple[ListedModel, FetchedPage]], pull_id: int, now: datetime
) -> BatchResult:
    """Model by model."""
    observations = [from_list(model, read.page.sent_at, read.received_at) for model, read in records]
    return apply(connection, observations, "pull", pull_id=pull_id, now=now) if observations else BatchResult([])


def _until(read: FetchedPage) -> datetime | None:
    return read.received_at if read.received_at > read.page.sent_at else None

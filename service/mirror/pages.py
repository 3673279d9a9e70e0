"""Pages of a pull into the mirror: what is new and what is as it was by sets, and only the rest model by model.

Why: `docs/decisions/0015-pulls-by-sets.md`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import asdict

from service.mirror.apply import apply
from service.mirror.census import KnownAsOf, difference_row
from service.mirror.codec import LIST_COLUMNS
from service.mirror.merging_batch import BatchResult
from service.mirror.observe import from_list
from service.storage import accuracy, history, merged, pages, pulls, refetches
from service.storage.pages import ShownModels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from service.mirror.prefetch import FetchedPage
    from service.upstream.payloads import ListedModel

# Of a page that fails: one bad row of 200 costs 29 further transactions, two of them as long as a statement may take.
PART_SIZE = 15


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
    apply the rest; remove the refetch requests for a profile; last, begin the histories of the inserted ones. The
    pages come in the order in which they were read; `began_at` is the upstream time of the pull's first one.
    """
    now = datetime.now(UTC)
    shown = _shown(fetched_pages)
    added: list[dict[str, Any]] = []
    known = pages.confirm(connection, shown, began_at)
    if known.missing:
        new_models = _new_models(shown, _records_of(fetched_pages, known.missing))
        inserted = pages.add(connection, new_models, now)
        added = [row for row in new_models if row["id"] in inserted]
        known = pages.confirm(connection, _without(shown, inserted), began_at)
    # Here all clocks are locked, and `known.unconfirmed` are the models whose rows these pages may change.
    applied = _apply(connection, _records_of(fetched_pages, known.unconfirmed), pull_id, now)
    if added or known.unconfirmed or known.profiles:
        refetches.complete_profiles(connection, sorted(shown.digests))
    _begin_histories(connection, added, pull_id, now)
    return PagesResult(
        known.new + len(added), len(applied.inserted) + len(added), len(applied.changed), len(applied.tombstoned)
    )


def parts_of(read: FetchedPage) -> list[FetchedPage]:
    """The models of a page as smaller pages, and those of a small one alone, to find what cannot be merged."""
    size = PART_SIZE if len(read.models) > PART_SIZE else 1
    return [with_models(read, slice(start, start + size)) for start in range(0, len(read.models), size)]


def with_models(read: FetchedPage, some: slice) -> FetchedPage:
    """A page with some of its models."""
    page = read.page._replace(ids=read.page.ids[some])
    return replace(read, page=page, models=read.models[some], digests=read.digests[some])


def _shown(fetched_pages: Sequence[FetchedPage]) -> ShownModels:
    """Each model once: pages overlap. One that several records show has one interval for them, and their digest."""
    times = [(read.page.sent_at, _until(read)) for read in fetched_pages]
    digests: dict[str, int | None] = {}
    intervals: dict[str, int] = {}
    for number, read in enumerate(fetched_pages):
        for model_id, digest in zip(read.page.ids, read.digests, strict=True):
            if model_id not in intervals:
                digests[model_id], intervals[model_id] = digest, number
                continue
            if digest != digests[model_id]:
                digests[model_id] = None
            (at, until), (other_at, other_until) = times[intervals[model_id]], times[number]
            intervals[model_id] = len(times)
            times.append((max(at, other_at), max((time for time in (until, other_until) if time), default=None)))
    return ShownModels(digests, intervals, times)


def _without(shown: ShownModels, ids: set[str]) -> ShownModels:
    digests = {model_id: digest for model_id, digest in shown.digests.items() if model_id not in ids}
    return shown._replace(digests=digests, intervals={model_id: shown.intervals[model_id] for model_id in digests})


def _records_of(fetched_pages: Sequence[FetchedPage], ids: set[str]) -> list[tuple[ListedModel, FetchedPage]]:
    """The records of some models, in the order in which they were read."""
    return [(model, read) for read in fetched_pages for model in read.models if model.id in ids] if ids else []


def _new_models(shown: ShownModels, records: Sequence[tuple[ListedModel, FetchedPage]]) -> list[dict[str, Any]]:
    """First rows, in id order; only the id, which makes its clocks, where `apply` has to merge the model."""
    rows: dict[str, dict[str, Any]] = {}
    for model, read in records:
        if (digest := shown.digests[model.id]) is None:
            rows[model.id] = {"id": model.id}
        elif before := rows.get(model.id):
            before["observed_at"] = min(before["observed_at"], read.page.sent_at)
        else:
            at, until = shown.times[shown.intervals[model.id]]
            times = {"observed_at": read.page.sent_at, "at": at, "until": until}
            rows[model.id] = {**asdict(model), **times, "digest": digest}
    return [rows[model_id] for model_id in sorted(rows)]


def _begin_histories(connection: Connection, added: Sequence[dict[str, Any]], pull_id: int, now: datetime) -> None:
    """Write the first changes of models out of their first rows, and that the mirror had missed them."""
    if not added:
        return
    # Before the first complete pull everything is missing, and that is no error of the mirror.
    compared = pulls.any_complete(connection)
    differences: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for row in added:
        values = {name: (None, row[name]) for name in LIST_COLUMNS if row[name] is not None}
        changes.append(history.change_row(row["id"], values, "pull", row["observed_at"], pull_id=pull_id))
        unknown = KnownAsOf(None, None)
        if compared and (missed := difference_row(row["id"], None, unknown, values, now, pull_id=pull_id)):
            differences.append(missed)
    accuracy.record(connection, differences)
    merged.append(connection, changes, now)


def _apply(
    connection: Connection, records: Sequence[tuple[ListedModel, FetchedPage]], pull_id: int, now: datetime
) -> BatchResult:
    """Model by model."""
    observations = [from_list(model, read.page.sent_at, read.received_at) for model, read in records]
    return apply(connection, observations, "pull", pull_id=pull_id, now=now) if observations else BatchResult([])


def _until(read: FetchedPage) -> datetime | None:
    return read.received_at if read.received_at > read.page.sent_at else None

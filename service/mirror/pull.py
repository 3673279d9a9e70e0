"""A pull: read the list, page by page, in slices, from checkpoints, under a lease.

A full pull has four phases. It checks the organization of the key. It walks over the whole list until one walk proves
that nothing was missed. It decides the suspects, the mirrored models that were not shown, by single GETs. It ends. A
hot pull walks the list once for each status that still changes, and requests GETs of the models that have left it.

Pages are read a little ahead of the merge. Some pages are one transaction: models merged, the checkpoint moved, the
lease renewed. A process that dies loses only the pages that it has not merged; one that lost its lease cannot commit.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
import structlog

from service.errors import LockUnavailable, StatementTimeout
from service.mirror import deletions, set_aside
from service.mirror.error_scope import ErrorScope, scope_of
from service.mirror.pages import merge_pages, parts_of, with_models
from service.mirror.prefetch import PagePrefetcher, require_status_filter
from service.mirror.pull_slice import FULL, HOT, MAX_FAILED_GETS, PullContext, PullSlice, PullState
from service.mirror.walk import (
    MAX_WALKS,
    PAGE_SIZE,
    Walk,
    failure_reason,
    incomplete_reason,
    next_walk,
    pages_of,
    proves_complete,
)
from service.model_fields import STATUSES
from service.storage import merged, organization, pull_checkpoints, suspects
from service.storage.database import ONE_ROW_LOCK_SECONDS, ONE_ROW_SECONDS, WHOLE_TABLE_SECONDS, transaction
from service.storage.refetches import REFETCH_DELAY, RefetchReason, RefetchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.mirror.prefetch import FetchedPage
    from service.upstream.payloads import ModelPage
    from service.upstream.responses import UpstreamResponse

log = structlog.get_logger(__name__)

HOT_STATUSES = tuple(status.name for status in STATUSES if status.hot)
# More models that left the hot lists at once are left to the next full pull: it is cheaper than their GETs.
MAX_LEFT_HOT = 50
SUSPECT_BATCH_SIZE = 20
# So few suspects are checked one by one, whatever share of the mirror they are.
MAX_UNREVIEWED_SUSPECTS = 10

# How long a statement about whole pages may take, and wait for a lock: less than the lease of the pull.
PAGES_SECONDS = 10.0
PAGES_LOCK_SECONDS = 5.0
# How long a suspect's row waits for a lock: also for the one that a drain holds until its commit.
SUSPECT_LOCK_SECONDS = 2.0
# After this long, what of a page still takes too long is set aside in larger parts.
PARTS_SECONDS = 30.0
# Between two rounds of GETs about suspects whose GET failed.
ROUND_PAUSE_SECONDS = 2.0


def advance(pull_context: PullContext, kind: str, interval: float, seconds: float, *, wake: bool = False) -> int | None:
    """Begin a pull of a kind if one is due, or go on with the running one, for about `seconds`.

    One is due `interval` seconds after the start of the last one. After `seconds` the lease is given back, and the
    next call resumes. With `wake` a pull goes on at once that rests after an error of the upstream or a lock.

    Returns:
        The number of the pull that was worked on; None where none was due or another process has it.

    Raises:
        PostgresUnavailable: Postgres is unavailable.
        RedisUnavailable: the Redis of the request budget is unavailable.
        LeaseLost: another process took over.
        Stopping: the process has to stop; the lease is given back.
    """
    with transaction(pull_context.engine) as connection:
        if wake:
            pull_checkpoints.end_rest(connection, kind)
        claim = pull_checkpoints.claim(connection, kind, pull_context.holder, interval)
    if claim is None:
        return None
    pull_id: int = claim["pull_id"]
    with structlog.contextvars.bound_contextvars(pull_id=pull_id):
        _Pull(pull_context, kind, pull_id, msgspec.convert(claim["state"], PullState), monotonic() + seconds).run()
    return pull_id


class _Pull(PullSlice):
    """The phases of a pull."""

    @property
    def steps(self) -> Mapping[str, Callable[[], None]]:
        return {"begin": self._begin, "walk": self._walk, "suspects": self._suspects}

    def _begin(self) -> None:
        """A full pull checks the organization of the key; models of another one must never reach the mirror."""
        if self.kind == FULL:
            found = self.pull_context.client.organization(priority=self._priority, max_wait=self.left).body
            name = found.name if isinstance(found.name, str) else None
            with transaction(self.pull_context.engine) as connection:
                mirrored = organization.mirrored(connection, found.uid, name)
            if mirrored != found.uid:
                self._finish(
                    "held", f"the API key belongs to organization {found.uid}; this database mirrors {mirrored}"
                )
                return
        self.state.statuses = HOT_STATUSES if self.kind == HOT else ()
        self.state.phase = "walk"

    def _walk(self) -> None:
        if self.state.walk.ended:
            self._finish_walk()
            return
        self.state.walk = self._with_start_time(self.state.walk)
        prefetcher = PagePrefetcher(self.state.walk, self._fetch_page, lambda: self.left, self.pull_context.ahead)
        try:
            while (fetched_pages := prefetcher.take()) and self._commit(fetched_pages):
                prefetcher.merged(len(fetched_pages))
        finally:
            prefetcher.close()

    def _fetch_page(self, offset: int) -> UpstreamResponse[ModelPage]:
        status = self.state.statuses[0] if self.state.statuses else None
        response = self.pull_context.client.list_models(
            limit=PAGE_SIZE,
            offset=offset,
            status=status,
            priority=self._priority,
            max_wait=self.left,
            expected=pages_of(self.state.walk.total),
        )
        if status is not None:
            require_status_filter(response.body.models, status)
        return response

    def _with_start_time(self, walk: Walk) -> Walk:
        """A walk that begins, with a time after every merged response: by it the models that it shows are known."""
        if walk.total is not None:
            return walk
        with transaction(self.pull_context.engine, WHOLE_TABLE_SECONDS) as connection:
            newest = suspects.newest_shown_at(connection)
        after = newest + timedelta(microseconds=1) if newest else walk.began_at
        return msgspec.structs.replace(walk, began_at=max(after, self.state.began_at or after))

    def _commit(self, fetched_pages: Sequence[FetchedPage]) -> bool:
        """Merge pages in one transaction; where that fails, page by page, and a page that fails alone in parts.

        Returns:
            False where some failed and the time is up: no further page may be merged, because it may not be the next.
        """
        failed = False
        try:
            self._merge(fetched_pages, fetched_pages[-1].walk, pages=len(fetched_pages))
        except Exception as error:  # noqa: BLE001 - it raises what no row causes
            self._go_on_after(error)
            failed = True
        if failed and len(fetched_pages) > 1:
            for read in fetched_pages:
                self.pull_context.pause(0)
                if not (self._commit([read]) and self.left):
                    return False
            return True
        if failed:
            self._merge_parts(fetched_pages[0])
        for read in fetched_pages:
            log.info("page", kind=self.kind, models=len(read.models), joined=read.joined, next=read.walk.offset)
        walk, total = fetched_pages[-1].walk, fetched_pages[-1].page.total
        self.pull_context.progress(total if walk.ended else min(walk.offset, total), total)
        return not failed or self.left > 0

    def _merge(
        self, fetched_pages: Sequence[FetchedPage], walk: Walk, *, pages: int, limits: tuple[float, float] | None = None
    ) -> None:
        """One transaction: the pages, even one that did not join, and the state of the walk after them.

        `limits`: how long a statement may take, and wait for a lock, in seconds; by default those of whole pages.
        """
        seconds, lock_seconds = limits or (PAGES_SECONDS, PAGES_LOCK_SECONDS)
        before = self.state.walk, self.requests
        self.state.began_at = began_at = self.state.began_at or fetched_pages[0].page.sent_at
        try:
            with transaction(self.pull_context.engine, seconds, lock_seconds, by_key=True) as connection:
                found = merge_pages(connection, fetched_pages, self.pull_id, began_at)
                set_aside.note(connection, [one for read in fetched_pages for one in read.set_aside], self.pull_id)
                self.state.walk = msgspec.structs.replace(walk, new=self.state.walk.new + found.new)
                if self.state.failures:
                    pull_checkpoints.record_error(connection, self.pull_id, None)
                self.state.failures = 0
                self._save_checkpoint(
                    connection,
                    pages=pages,
                    models_seen=found.new,
                    inserted=found.inserted,
                    changed=found.changed,
                    tombstoned=found.tombstoned,
                )
        except Exception:
            self.state.walk, self.requests = before
            raise

    def _go_on_after(self, error: Exception) -> None:
        """Raise an error that no row causes. After one that took time, renew the lease."""
        if scope_of(error) is not ErrorScope.MODEL:
            raise error
        if isinstance(error, StatementTimeout | LockUnavailable):
            with transaction(self.pull_context.engine) as connection:
                self._save_checkpoint(connection)

    def _merge_parts(self, read: FetchedPage) -> None:
        """Merge a page in parts, and set aside each model that fails alone; last, move the walk.

        Raises:
            StatementTimeout: nothing of the page could be written in time, so no single row is the cause.
            LockUnavailable: the same with a lock.
        """
        parts, refused, written = parts_of(read), [], False
        deadline = monotonic() + PARTS_SECONDS
        while parts:
            part = parts.pop()
            error = self._try_part(part)
            if error is None:
                written = True
                continue
            late = isinstance(error, StatementTimeout | LockUnavailable) and monotonic() > deadline
            if late and not written:
                raise error
            if len(part.models) > 1 and not late:
                parts.extend(parts_of(part))
            else:
                refused.append((part, error))
        late = all(isinstance(error, StatementTimeout | LockUnavailable) for _, error in refused)
        if late and not written and len(refused) > 1:
            raise refused[0][1]
        # A lock on the whole table may have been released meanwhile.
        errors: dict[str, Exception] = {}
        for part, error in refused:
            if last := self._try_part(part) if isinstance(error, LockUnavailable) else error:
                errors.update(dict.fromkeys(part.page.ids, last))
        set_aside.note_refused(self.pull_context.engine, errors, self.pull_id)
        self._merge([with_models(read, slice(0))], read.walk, pages=1)

    def _try_part(self, part: FetchedPage) -> Exception | None:
        """Merge a part of a page; the error where its models are the cause."""
        self.pull_context.pause(0)
        try:
            self._merge([part], self.state.walk, pages=0, limits=(ONE_ROW_SECONDS, ONE_ROW_LOCK_SECONDS))
        except Exception as error:  # noqa: BLE001 - it raises what no row causes
            self._go_on_after(error)
            return error
        return None

    def _finish_walk(self) -> None:
        """After a walk's end: another status, another walk, the suspects, or the end."""
        walk = self.state.walk
        with transaction(self.pull_context.engine, WHOLE_TABLE_SECONDS) as connection:
            seen_count = suspects.shown_since(connection, self.pull_id, walk.began_at)
            refused = suspects.refused(connection, self.pull_id) if self.kind == FULL else 0
        if refused > 1 and refused == seen_count:
            self._finish("failed", f"none of {refused} models could be written; the table set_aside has the reasons")
        elif reason := failure_reason(walk, seen_count):
            self._finish("failed", reason)
        elif self.kind == HOT:
            self._next_status()
        elif proves_complete(walk, seen_count):
            self._find_suspects()
        elif walk.number == MAX_WALKS:
            self._finish("failed", incomplete_reason(walk, seen_count))
        else:
            log.info("walk.repeated", number=walk.number, seen=seen_count, total=walk.total)
            self.state.walk = next_walk(walk)

    def _next_status(self) -> None:
        self.state.statuses = self.state.statuses[1:]
        self.state.walk = Walk()
        if self.state.statuses:
            return
        began_at = self._began_at
        with transaction(self.pull_context.engine, WHOLE_TABLE_SECONDS) as connection:
            left = suspects.left_hot(connection, self.pull_id, began_at, HOT_STATUSES, MAX_LEFT_HOT)
            due_at = datetime.now(UTC) + REFETCH_DELAY
            merged.add_requests(
                connection,
                [
                    RefetchRequest(model_id, began_at, RefetchReason.LEFT_HOT, due_at, pull_id=self.pull_id)
                    for model_id in left
                ],
            )
        self._finish("complete")

    def _find_suspects(self) -> None:
        began_at = self._began_at
        with transaction(self.pull_context.engine, WHOLE_TABLE_SECONDS) as connection:
            suspects.unhold_shown(connection, began_at)
            found, live = suspects.count(connection, self.pull_id, began_at)
            held = found > max(MAX_UNREVIEWED_SUSPECTS, self.pull_context.tombstone_limit * live)
            if held:
                suspects.hold(connection, self.pull_id, began_at)
        if held:
            self._finish("held", f"{found} of {live} live models were not shown; none was tombstoned")
        elif found:
            self.state.phase = "suspects"
        else:
            self._finish("complete")

    def _suspects(self) -> None:
        """Decide some suspects by single GETs; when none is left, the pull is complete."""
        with transaction(self.pull_context.engine, WHOLE_TABLE_SECONDS) as connection:
            some = suspects.list_above(connection, self.pull_id, self._began_at, self.state.checked, SUSPECT_BATCH_SIZE)
        for model_id in some:
            if not self.left:
                return
            self._decide(model_id)
        if some:
            return
        for model_id in self.state.to_check_again:
            if not self.left:
                return
            self._decide(model_id)
        if self.state.to_check_again:
            self.pause = ROUND_PAUSE_SECONDS
        else:
            self._finish("complete")

    def _decide(self, model_id: str) -> None:
        """Decide one suspect by a single GET. Where it fails, the others are decided meanwhile."""
        pull_context, failed = self.pull_context, self.state.failed_gets.get(model_id, 0)
        suspect = deletions.check_or_record_failure(
            pull_context.engine, pull_context.client, self.state, model_id, self.left
        )
        if suspect is None:
            return
        requests = self.requests
        try:
            with transaction(pull_context.engine, ONE_ROW_SECONDS, SUSPECT_LOCK_SECONDS) as connection:
                applied = deletions.settle(connection, suspect, self.pull_id)
                self._save_checkpoint(connection, changed=len(applied.changed), tombstoned=len(applied.tombstoned))
        except Exception as error:  # noqa: BLE001 - whatever one row makes of our code, the others are decided
            self.requests = requests
            self.state.failed_gets[model_id] = failed + 1 if isinstance(error, LockUnavailable) else MAX_FAILED_GETS
            self._go_on_after(error)
            if model_id in self.state.postponed:
                set_aside.note_refused(pull_context.engine, {model_id: error}, self.pull_id)

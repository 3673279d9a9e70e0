"""Pages read ahead: how far, in which order, and what becomes of an error."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from service.broker.inbox import MAX_READ_BYTES
from service.errors import UpstreamTimeout
from service.mirror.prefetch import PagePrefetcher
from service.mirror.walk import PAGE_SIZE, Walk
from service.upstream.payloads import ListedModel, ModelPage, Pagination
from service.upstream.responses import UpstreamResponse
from tests.support.processes import eventually

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)


class Vendor:
    """Answers with pages of a list that holds still; one request may fail, one may be kept waiting."""

    def __init__(self, models: int, fails_at: int | None = None, size: int = 0) -> None:
        self.ids = [f"{0x65A51E40 + number:08x}{number:016x}" for number in range(models)]
        self.offsets: list[int] = []
        self._fails_at = fails_at
        self._size = size

    def ask(self, offset: int) -> UpstreamResponse[ModelPage]:
        self.offsets.append(offset)
        if len(self.offsets) == self._fails_at:
            raise UpstreamTimeout("no answer in time")
        shown = tuple(ListedModel(id=model_id) for model_id in self.ids[offset : offset + PAGE_SIZE])
        more = offset + PAGE_SIZE < len(self.ids)
        pagination = Pagination(total=len(self.ids), limit=PAGE_SIZE, offset=offset, has_more=more)
        return UpstreamResponse(ModelPage(models=shown, pagination=pagination), NOON, NOON, raw=b" " * self._size)


def minute() -> float:
    """Time enough."""
    return 60.0


def read_all(reader: PagePrefetcher) -> list[str]:
    """Everybody who is shown, as a pull takes them."""
    met: list[str] = []
    while reads := reader.take():
        met += [model.id for read in reads for model in read.models]
        reader.merged(len(reads))
    return met


@pytest.mark.parametrize("most", [1, 3])
def test_every_page_is_taken_once_and_in_order(most: int) -> None:
    vendor = Vendor(1_000)
    met = read_all(PagePrefetcher(Walk(), vendor.ask, minute, most))
    assert list(dict.fromkeys(met)) == vendor.ids
    assert vendor.offsets == sorted(set(vendor.offsets))


def test_pages_taken_together_are_bounded_in_bytes() -> None:
    vendor = Vendor(2_000, size=MAX_READ_BYTES // 2)
    reader = PagePrefetcher(Walk(), vendor.ask, minute, 16)
    assert eventually(lambda: len(vendor.offsets) == 11)
    assert [len(reader.take()) for _ in range(6)] == [2, 2, 2, 2, 2, 1]
    assert reader.take() == []


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_pages_are_read_than_may_wait(most: int) -> None:
    vendor = Vendor(2_000)
    reader = PagePrefetcher(Walk(), vendor.ask, minute, most)
    assert eventually(lambda: len(vendor.offsets) == most)
    taken = len(reader.take())
    assert len(vendor.offsets) == most
    reader.merged(taken)
    assert eventually(lambda: len(vendor.offsets) == most + taken)
    reader.close()


def test_half_of_what_may_be_read_is_taken_at_once() -> None:
    vendor = Vendor(2_000)
    reader = PagePrefetcher(Walk(), vendor.ask, minute, 6)
    assert eventually(lambda: len(vendor.offsets) == 6)
    assert len(reader.take()) == 3
    reader.close()


def test_an_error_comes_after_the_pages_before_it() -> None:
    vendor = Vendor(2_000, fails_at=3)
    reader = PagePrefetcher(Walk(), vendor.ask, minute, 5)
    assert eventually(lambda: len(vendor.offsets) == 3)
    taken = []
    while len(taken) < 2:
        taken += reader.take()
    with pytest.raises(UpstreamTimeout):
        reader.take()


def test_prefetcher_stops_asking_at_deadline_and_loses_no_page() -> None:
    vendor, late = Vendor(2_000), threading.Event()

    def left() -> float:
        return 0.0 if late.is_set() else 60.0

    reader = PagePrefetcher(Walk(), vendor.ask, left, 2)
    assert eventually(lambda: len(vendor.offsets) == 2)
    late.set()
    assert len(set(read_all(reader))) == 2 * PAGE_SIZE - 10
    assert len(vendor.offsets) == 2


def test_a_reader_that_is_closed_asks_for_nothing_more() -> None:
    vendor = Vendor(2_000)
    reader = PagePrefetcher(Walk(), vendor.ask, minute, 1)
    assert eventually(lambda: len(vendor.offsets) == 1)
    reader.close()
    assert reader.take()
    assert reader.take() == []
    assert len(vendor.offsets) == 1

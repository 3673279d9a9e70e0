"""The memory for bodies: who has to end when it is used up."""

from __future__ import annotations

import gevent
import pytest

from service.web.bodies import BodyBudget

KB = 1024


class Body:
    """Stands for a connection: it is cut, or it is not."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True

    def yield_turn(self) -> None:
        gevent.sleep(0.001)


def bodies(budget: BodyBudget, *sizes: int) -> list[Body]:
    """Bodies that have begun to arrive, in this order."""
    begun = [Body() for _ in sizes]
    for body, size in zip(begun, sizes, strict=True):
        budget.take(body, size)  # type: ignore[arg-type]
    return begun


def test_body_that_has_been_arriving_longest_ends_for_a_newcomer() -> None:
    budget = BodyBudget(100 * KB)
    first, second = bodies(budget, 60 * KB, 40 * KB)
    newcomer = Body()
    taking = gevent.spawn(budget.take, newcomer, 30 * KB)
    gevent.sleep(0.01)
    assert (first.is_aborted, second.is_aborted, newcomer.is_aborted) == (True, False, False)
    # There is room only when the memory is given back.
    assert not taking.ready()
    budget.release(first)  # type: ignore[arg-type]
    taking.get(timeout=10)


def test_complete_body_never_ends() -> None:
    budget = BodyBudget(100 * KB)
    complete, arriving = bodies(budget, 60 * KB, 40 * KB)
    budget.complete(complete)  # type: ignore[arg-type]
    taking = gevent.spawn(budget.take, Body(), 30 * KB)
    gevent.sleep(0.01)
    assert (complete.is_aborted, arriving.is_aborted) == (False, True)
    budget.release(arriving)  # type: ignore[arg-type]
    taking.get(timeout=10)


def test_body_alone_that_is_too_much_ends_itself() -> None:
    budget = BodyBudget(100 * KB)
    with pytest.raises(TimeoutError):
        bodies(budget, 101 * KB)
    # The bytes of a body that has ended are free again.
    budget = BodyBudget(100 * KB)
    (body,) = bodies(budget, 100 * KB)
    budget.release(body)  # type: ignore[arg-type]
    bodies(budget, 100 * KB)


def test_delivery_does_not_wait_for_room() -> None:
    budget = BodyBudget(100 * KB)
    first, _ = bodies(budget, 60 * KB, 40 * KB)
    bodies(budget, 2 * KB)
    assert first.is_aborted

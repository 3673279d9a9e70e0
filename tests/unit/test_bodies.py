"""The memory for bodies: who has to end when it is used up."""

from __future__ import annotations

import gevent
import pytest

from service.web.bodies import BodyBudget


class Body:
    """Stands for a connection: it is cut, or it is not."""

    def __init__(self) -> None:
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


def bodies(budget: BodyBudget, *sizes: int) -> list[Body]:
    """Bodies that have begun to arrive, in this order."""
    begun = [Body() for _ in sizes]
    for body, size in zip(begun, sizes, strict=True):
        budget.take(body, size)  # type: ignore[arg-type]
    return begun


def test_body_that_has_been_arriving_longest_ends_for_a_newcomer() -> None:
    budget = BodyBudget(100)
    first, second = bodies(budget, 60, 40)
    newcomer = Body()
    taking = gevent.spawn(budget.take, newcomer, 10)
    gevent.sleep(0.01)
    assert (first.is_cut, second.is_cut, newcomer.is_cut) == (True, False, False)
    # There is room only when the memory is given back.
    assert not taking.ready()
    budget.release(first)  # type: ignore[arg-type]
    taking.get(timeout=10)


def test_complete_body_never_ends() -> None:
    budget = BodyBudget(100)
    complete, arriving = bodies(budget, 60, 40)
    budget.complete(complete)  # type: ignore[arg-type]
    taking = gevent.spawn(budget.take, Body(), 10)
    gevent.sleep(0.01)
    assert (complete.is_cut, arriving.is_cut) == (False, True)
    budget.release(arriving)  # type: ignore[arg-type]
    taking.get(timeout=10)


def test_body_alone_that_is_too_much_ends_itself() -> None:
    budget = BodyBudget(100)
    with pytest.raises(TimeoutError):
        bodies(budget, 101)
    # What a body held that ended is there again.
    budget = BodyBudget(100)
    (body,) = bodies(budget, 100)
    budget.release(body)  # type: ignore[arg-type]
    bodies(budget, 100)

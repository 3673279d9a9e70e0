"""How many examples a property is tried with: a test's own number, or as many times more as `make fuzz` wants."""

from __future__ import annotations

from hypothesis import settings

# The library's default number of examples, which the profile of every run keeps.
USUAL = 100


def examples(number: int) -> int:
    """So many examples in a run of the tests, and more in a search."""
    return number * settings().max_examples // USUAL

"""The order of a run: what takes long comes first, so that no process ends with it; else pytest-randomly's order.

Slow folders come first, and in a folder the groups, each of which one process runs whole, then long tests.

Why: `docs/decisions/0030-tests-and-ci.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = ("faults", "fuzz", "integration", "unit")


def rank(path: Path) -> int:
    """Where the tests of a file come; unknown folders come first."""
    # The file's own folder: those above it have names that the owner of a checkout chose.
    folder = path.parent.name
    return FOLDERS.index(folder) if folder in FOLDERS else -1


def weight(item: pytest.Item) -> int:
    """Where the tests of a file come within its folder."""
    if item.get_closest_marker("xdist_group"):
        return 0
    return 1 if item.get_closest_marker("long") else 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow tests first; a test that ends what its file shares comes last in that file."""
    files = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(
        key=lambda item: (
            rank(item.path),
            weight(item),
            files[item.path],
            item.get_closest_marker("last") is not None,
        )
    )

"""The environment itself: what it gives, and what a child process gets of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from service.config.given import read_dotenv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment for a child, with some variables set, or removed where the value is None."""
    merged = {**os.environ, **{name: value for name, value in changes.items() if value is not None}}
    return {name: value for name, value in merged.items() if changes.get(name, value) is not None}


def force_wheels() -> bool:
    """Whether local servers must come from wheels even where the machine has its own: FORCE_WHEELS=1."""
    return os.environ.get("FORCE_WHEELS") == "1"


def run_by_up() -> list[str]:
    """The folder of the `up` that started this process, and the servers that it runs; empty without one."""
    given = os.environ.get("RUN_BY_UP")
    return given.split(os.pathsep) if given else []


def is_any_given(names: Iterable[str]) -> bool:
    """Whether the environment or `.env` has a value for one of some settings, or a NAME_FILE of one."""
    layers: tuple[Mapping[str, str | None], ...] = os.environ, read_dotenv(Path(".env"))
    return any(layer.get(variant) for name in names for variant in (name, f"{name}_FILE") for layer in layers)

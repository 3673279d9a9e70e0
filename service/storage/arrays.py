"""Texts for Postgres as one array literal: psycopg puts a list together in Python, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def text_array(values: Iterable[str]) -> str:
    """The literal of a `text[]`; the statement casts it."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"

"""The schema's metadata, and the kinds of column that most tables have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, MetaData, Text, text
from sqlalchemy.dialects.postgresql import TIMESTAMP

SCHEMA = "headshotpro"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
    },
)


def time_column(name: str, comment: str, **options: Any) -> Column[Any]:
    """A `timestamptz`."""
    return Column(name, TIMESTAMP(timezone=True), comment=comment, **options)


def text_column(name: str, comment: str, **options: Any) -> Column[Any]:
    """A `text`."""
    return Column(name, Text, comment=comment, **options)


def count_column(name: str, comment: str) -> Column[Any]:
    """An `integer` that is never null and begins at 0."""
    return filled_column(name, Integer, "0", comment)


def filled_column(name: str, kind: Any, default: str, comment: str) -> Column[Any]:
    """A column that is never null; `default` is the SQL of what it is where nothing is written."""
    return Column(name, kind, nullable=False, server_default=text(default), comment=comment)


def parent_column(name: str, parent: Column[Any], comment: str, **options: Any) -> Column[Any]:
    """The key of a row of another table, with which this row is deleted."""
    return Column(name, parent.type, ForeignKey(parent, ondelete="CASCADE"), comment=comment, **options)

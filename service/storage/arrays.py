"""Many rows as parameters: an array for each column, which Postgres reads as a table.

psycopg writes an array item by item in Python, which took half of a drain's time. msgspec writes a list as JSON in a
fraction of that, and but for its brackets and some escapes that is an array as Postgres reads it. Postgres reads arrays
in a half to a fifth of the time that it takes for the same rows as one JSON document.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Table

_ENCODER = msgspec.json.Encoder()
_DOCUMENTS = ("json", "jsonb")

# The names of the types that our tables use, where SQLAlchemy's own differ from Postgres'.
_TYPES = {"DATETIME": "timestamptz", "TIMESTAMP": "timestamptz", "JSON": "jsonb", "ARRAY": "text[]"}

# An escape of JSON. In an array a backslash stands before a character that means itself.
_ESCAPE = re.compile(r"\\(?:u....|.)")
_OTHER_ESCAPE = re.compile(r'\\[^"\\]')
# What is left of control characters in a JSON document is white space between its parts.
_SPACES = bytes(range(256)).translate(bytes.maketrans(bytes(range(32)), b" " * 32))


def table(types: Mapping[str, str]) -> str:
    """An item of a FROM: parameters as a table `new`, with `place` as the number of each row.

    `types` are each column and its type; the names are our own.
    """
    given = ", ".join(_given(f":rows_{name}", kind) for name, kind in types.items())
    names = ", ".join(f"CAST({name} AS {kind})" if _is_text(kind) else name for name, kind in types.items())
    return f"""(
        SELECT {names}, place FROM unnest({given}) WITH ORDINALITY AS given ({", ".join(types)}, place)
    ) AS new ({", ".join(types)}, place)"""  # noqa: S608 - names of our own columns


def columns(types: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The parameters of `table`.

    Args:
        types: those of `table`.
        rows: names may be missing (null) or be more than the columns; what msgspec can write fits into `jsonb`, a
            `msgspec.Raw` as it is.
    """
    # Row by row: in a large batch, each row that is touched again has left the processor's cache.
    values = zip(*([*map(row.get, types)] for row in rows), strict=True) if rows else [()] * len(types)
    return {f"rows_{column}": _column(kind, given) for (column, kind), given in zip(types.items(), values, strict=True)}


def columns_by_type(types: Mapping[str, str], rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, str]:
    """Rows as one parameter for all columns of a type: an array of their arrays, in the order of `types`.

    psycopg translates a statement anew each time that it has more than 50 parameters. JSON documents come as in
    `columns`.

    Args:
        types: each column and its type; one with documents at most.
        rows: as in `columns`.
        name: the parameters are named after it and their type.
    """
    found: dict[str, list[str]] = {kind.removesuffix("[]"): [] for kind in types.values()}
    for kind, parameter in zip(types.values(), columns(types, rows).values(), strict=True):
        found[kind.removesuffix("[]")].append(parameter)
    return {
        f"{name}_{kind}": arrays[0] if kind in _DOCUMENTS else f"{{{','.join(arrays)}}}" if rows else "{}"
        for kind, arrays in found.items()
    }


# The parameter `ids` as an array of texts, whose values the planner does not see: it would look at each of them.
IDS_ARRAY = "ARRAY(SELECT unnest(CAST(:ids AS text[])))"


def column_types(known: Table, names: Sequence[str]) -> dict[str, str]:
    """The types of a table's columns."""
    return {name: _TYPES.get(kind := str(known.columns[name].type), kind.lower()) for name in names}


def encode(values: Sequence[Any]) -> str:
    """Texts, numbers, times or null as the text of an array of Postgres."""
    items = _ENCODER.encode(values)[1:-1].decode()
    return "{" + (_ESCAPE.sub(_unescape, items) if _OTHER_ESCAPE.search(items) else items) + "}"


def _is_text(kind: str) -> bool:
    """Whether a column of a type is sent as texts: arrays in an array would all need one length."""
    return kind in _DOCUMENTS or kind.endswith("[]")


def _given(parameter: str, kind: str) -> str:
    if kind in _DOCUMENTS:
        return f"string_to_array(CAST({parameter} AS text), chr(10), '')"
    return f"CAST({parameter} AS {'text' if _is_text(kind) else kind}[])"


def _column(kind: str, values: Sequence[Any]) -> str:
    if kind in _DOCUMENTS:
        # One a line: the escapes of an array cost as much as all else. None is an empty line.
        lines = [b"" if value is None else _ENCODER.encode(value).translate(_SPACES) for value in values]
        return b"\n".join(lines).decode()
    if kind.endswith("[]"):
        return encode([None if value is None else encode(value) for value in values])
    return encode(values)


def _unescape(escape: re.Match[str]) -> str:
    """An escape as it is where arrays have the same, else the character that it means."""
    return escape[0] if escape[0][1] in '"\\' else json.loads(f'"{escape[0]}"')

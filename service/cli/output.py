"""How data is printed: a table for people, one JSON document for programs."""

from __future__ import annotations

import csv
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


WIDEST = 1000


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--json` of a command that prints data."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def csv_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--csv` of a command that prints rows."""
    return click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a line of names.")(function)


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows as CSV (RFC 4180); null is empty, times are ISO 8601 in UTC, truth is `true` or `false`."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return json.dumps(value)
    return _plain(value) if isinstance(value, datetime) else value


def print_json(document: Any) -> None:
    """One document; times are ISO 8601 in UTC."""
    click.echo(json.dumps(document, default=_plain, indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Rows as a table of some columns, or whole as a JSON list."""
    if as_json:
        print_json([dict(row) for row in rows])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(shown(row[column]) for column in columns))
    # Ids stay whole, to be copied; a terminal that is too narrow wraps the line itself.
    Console(width=WIDEST).print(table)


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return str(value)


def told_by(change: Mapping[str, Any]) -> str:
    """What told a change of `model_changes`, for people: `webhook evt_1`, `pull 3`, `refetch for pull 3`, `refetch`."""
    if change["event_id"]:
        return f"{change['source']} {change['event_id']}"
    if change["pull_id"]:
        return f"pull {change['pull_id']}" if change["source"] == "pull" else f"refetch for pull {change['pull_id']}"
    return str(change["source"])


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no form in JSON")

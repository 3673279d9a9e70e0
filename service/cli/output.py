"""How data is printed: a table for people, one JSON document for programs.

Text from outside (titles, ids, addresses, errors) stays text: no markup, and nothing that a terminal obeys. Commands
print through `say` and the functions below, never by themselves.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from service.plain_text import UNSAFE_BUT_NEWLINE, csv_cell, escape_controls, indented_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def say(text: str = "", *, err: bool = False, lines: bool = False) -> None:
    """Print a line in which nothing is obeyed by a terminal.

    Args:
        text: holds anything from outside.
        err: to stderr.
        lines: whether its line breaks are ours, and stay.
    """
    click.echo(escape_controls(text, lines=lines), err=err)


def warn_if_unknown(noun: str, word: str | None, documented: Sequence[str]) -> None:
    """Say on stderr that a filter which found nothing may be misspelt; no error, as the vendor may add such words."""
    if word and word not in documented:
        say(f"headshot-mirror: the vendor documents no {noun} {word}; it has {', '.join(documented)}", err=True)


def say_in_colour(text: str, colour: str) -> None:
    """Print the beginning of a line in one of click's colours; without it where the output is no terminal."""
    click.secho(escape_controls(text), fg=colour, bold=True, nl=False)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--json` of a command that prints data."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def yes_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--yes` of a command that destroys something."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def confirm(question: str, *, yes: bool) -> None:
    """Ask on stderr before something is destroyed, unless `yes`; any answer but yes ends the command with status 1."""
    if not yes:
        if sys.stdin is None:
            # It is closed: Python could not ask.
            raise click.Abort
        click.confirm(escape_controls(question), abort=True, err=True)


def csv_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--csv` of a command that prints rows."""
    exact = "Print CSV with a line of names, every value exactly as it is: for programs, such as psql's copy."
    safe = (
        "The same for spreadsheets, which would run a title like =HYPERLINK(…) as a formula: a ' is put before "
        "a value that begins so, also after a separator."
    )
    function = click.option("--csv-safe", "csv_safe", is_flag=True, help=safe)(function)
    return click.option("--csv", "as_csv", is_flag=True, help=exact)(function)


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, safe: bool = False) -> None:
    """Rows as CSV (RFC 4180), for spreadsheets too where `safe`; null is empty, times are ISO 8601 in UTC."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    # A file gets the exact value; on a terminal each row has to be one line.
    is_terminal = sys.stdout.isatty()
    for row in rows:
        cells = [csv_cell(row[name], safe=safe) for name in columns]
        if is_terminal:
            cells = [escape_controls(cell) if isinstance(cell, str) else cell for cell in cells]
        writer.writerow(cells)
    # An output that takes nothing fails here, where the command reports it.
    sys.stdout.flush()


def print_json(document: Any) -> None:
    """One document; times are ISO 8601 in UTC. Control characters are escaped as in JSON."""
    text = indented_json(document, _iso_time)
    click.echo(UNSAFE_BUT_NEWLINE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def format_value(value: Any) -> str:
    """A value for people, with nothing in it that a terminal obeys."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, Mapping):
        return "; ".join(f"{escape_controls(str(name))} {format_value(part)}" for name, part in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value)) or "-"
    return escape_controls(str(value))


def describe_source(change: Mapping[str, Any]) -> str:
    """The source of a change, for people: `webhook evt_1`, `pull 3`, `refetch for pull 3`, `refetch`."""
    if change["event_id"]:
        return f"{change['source']} {change['event_id']}"
    if change["pull_id"]:
        return f"pull {change['pull_id']}" if change["source"] == "pull" else f"refetch for pull {change['pull_id']}"
    return str(change["source"])


def _iso_time(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no form in JSON")

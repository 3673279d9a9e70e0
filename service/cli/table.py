"""Tables for people: whole where they are piped, and no wider than the terminal where one shows them."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

from service.cli.output import format_value, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDEST = 1000
GAP = 2
# These may be cut where a terminal is narrow. Ids stay whole, to be copied.
TEXT_COLUMNS = frozenset(
    {"title", "email", "team_name", "error", "detail", "changed", "by", "receiver", "answer", "event", "failed_reason"}
)
MIN_TEXT_WIDTH = 12


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Rows as a table of some columns, the most important first, or whole as a JSON list; `empty` if there are none."""
    if as_json:
        print_json([dict(row) for row in rows])
    elif not rows:
        say(empty)
    else:
        _print_table(rows, columns)


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    cells = {column: [format_value(row[column]) for row in rows] for column in columns}
    natural = {column: max(map(cell_len, (column, *cells[column]))) for column in columns}
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDEST
    widths = fit(natural, room)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in widths.items():
        table.add_column(column, no_wrap=True, width=width)
    for number in range(len(rows)):
        table.add_row(*(cells[column][number] for column in widths))
    # The first column is whole in any case; a terminal that is narrower than that wraps the line itself.
    needed = sum(widths.values()) + GAP * len(widths)
    Console(width=max(room, needed), markup=False, emoji=False, highlight=False).print(table)
    if hidden := [column for column in columns if column not in widths]:
        say(f"Not shown in a terminal of {room} columns: {', '.join(hidden)}. --json prints everything.", err=True)


def fit(natural: Mapping[str, int], room: int) -> dict[str, int]:
    """The columns for which a line has room, and the width of each: the last ones are left out, and texts are cut."""
    least = {
        column: min(width, MIN_TEXT_WIDTH) if column in TEXT_COLUMNS else width for column, width in natural.items()
    }
    shown = list(natural)
    while len(shown) > 1 and sum(least[column] for column in shown) + GAP * (len(shown) - 1) > room:
        shown.pop()
    left = room - sum(least[column] for column in shown) - GAP * (len(shown) - 1)
    widths = {column: least[column] for column in shown}
    # The text that needs least is served first, so that what it leaves goes to the others.
    cut = sorted((column for column in shown if least[column] < natural[column]), key=natural.__getitem__)
    for place, column in enumerate(cut):
        more = min(natural[column] - least[column], max(0, left) // (len(cut) - place))
        widths[column] += more
        left -= more
    return widths

"""`headshot-mirror accuracy`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from service.cli.opening import reading
from service.cli.output import format_value, json_option
from service.cli.table import print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

# The verdict and what it follows from come first: a narrow terminal shows these alone.
COLUMNS = (
    "period", "fields", "slo_met", "rate", "lower_95", "upper_95", "compared", "wrong", "unexplained", "late_webhooks",
    "lost_webhooks", "stale_p50", "stale_p95", "stale_p99", "stale_max", "slo_target", "error_budget_left",
    "censored_share", "bound_method", "last_check_at", "computed_at",
)  # fmt: skip
RATES = ("rate", "lower_95", "upper_95")
NO_FIGURES = "No figures yet: a worker computes them each minute."


@click.command(epilog="Example: headshot-mirror accuracy --json | jq '.[] | select(.slo_met == false)'")
@json_option
def accuracy(*, as_json: bool) -> None:
    """Show how many rows were wrong, and for how long.

    Each full pull and random single GETs compare rows with the upstream. Each period has a line for the fields of
    the list and one for the details. Rates are shares of the compared rows; times are seconds.
    """
    from service.storage.accuracy_figures import read_figures

    with reading() as connection:
        rows = read_figures(connection)
    print_rows(rows if as_json else [_for_people(row) for row in rows], COLUMNS, as_json=as_json, empty=NO_FIGURES)


def _for_people(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
    shown.update({name: f"{row[name]:.6f}" for name in RATES if row[name] is not None})
    shown["slo_target"] = f"{row['slo_target']:g}"
    shown["slo_met"] = _undecided(row) if row["slo_met"] is None else format_value(row["slo_met"])
    return shown


def _undecided(row: Mapping[str, Any]) -> str:
    """The reason in place of a verdict."""
    from service.storage.accuracy_figures import FRESH_FOR

    return "out of date" if datetime.now(UTC) - row["computed_at"] > FRESH_FOR else "too few checks"

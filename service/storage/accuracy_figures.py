"""`accuracy_figures`: the sums of a period's comparisons, for the view `accuracy`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from service.model_fields import DETAIL, Source, columns_in, columns_of
from service.storage import queries
from service.storage.tables.accuracy import accuracy_figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection


class Findings(NamedTuple):
    """The comparisons of a period.

    Attributes:
        pulls: of each full pull the rows that it compared, and those that were wrong for ten seconds or longer.
        samples: of each stratum the samples, those wrong in a field of the list, those that compared details, and those
            wrong in a detail.
        staleness: p50, p95, p99 and the maximum of the seconds for which wrong rows were wrong; None without any.
        censored_share: share of those of which only the upper end of an interval is known.
        unexplained: differences that are our own fault.
        last_check_at: when a row was last compared.
    """

    pulls: list[tuple[int, int]]
    samples: dict[str, tuple[int, int, int, int]]
    staleness: tuple[float | None, float | None, float | None, float | None]
    censored_share: float | None
    late: int
    lost: int
    unexplained: int
    last_check_at: datetime | None


# A difference counts once it has a class, or after five minutes: before, its webhook may be on its way, it may be
# seconds old, and in a small mirror one row more exceeds every target. Longer it has no class only while events wait.
_COUNTS = "(class IS NOT NULL OR checked_at < now() - interval '5 minutes')"
_PULLS = f"""
    SELECT p.rows_compared, least(p.rows_compared, (
        SELECT count(*) FROM headshotpro.accuracy_checks AS d
        WHERE d.pull_id = p.id AND {_COUNTS} AND coalesce(d.stale_seconds >= :tolerated, true)
    -- A suspect that a GET found alive and changed was on no page, so it is not among the compared rows.
    ))
    FROM headshotpro.pulls AS p
    WHERE p.kind = 'full' AND p.rows_compared > 0 AND p.started_at > now() - CAST(:period AS interval)
"""  # noqa: S608 - constant
_SAMPLES = f"""
    SELECT stratum, count(*), count(*) FILTER (WHERE {_COUNTS} AND fields && CAST(:list_fields AS text[])
            AND coalesce(stale_seconds >= :tolerated, true)),
        count(*) FILTER (WHERE with_details),
        count(*) FILTER (WHERE with_details AND {_COUNTS} AND fields && CAST(:detail_fields AS text[]))
    FROM headshotpro.accuracy_checks
    WHERE method = 'sample' AND stratum IS NOT NULL AND checked_at > now() - CAST(:period AS interval)
    GROUP BY stratum
"""  # noqa: S608 - constant
_DIFFERENCES = f"""
    SELECT percentile_cont(ARRAY[0.5, 0.95, 0.99, 1.0]) WITHIN GROUP (ORDER BY stale_seconds),
        avg(CASE WHEN censored THEN 1.0 ELSE 0.0 END) FILTER (WHERE stale_seconds IS NOT NULL),
        count(*) FILTER (WHERE class = 'late'), count(*) FILTER (WHERE class = 'lost'),
        count(*) FILTER (WHERE class = 'unexplained'),
        (SELECT max(at) FROM (
            SELECT max(checked_at) FROM headshotpro.accuracy_checks
            UNION ALL SELECT max(finished_at) FROM headshotpro.pulls WHERE kind = 'full' AND rows_compared > 0
        ) AS newest (at))
    FROM headshotpro.accuracy_checks
    WHERE {_COUNTS} AND checked_at > now() - CAST(:period AS interval) AND fields && CAST(:fields AS text[])
"""  # noqa: S608 - constant


def findings(
    connection: Connection, period: str, columns: Mapping[str, Sequence[str]], tolerated: float
) -> dict[str, Findings]:
    """The comparisons of the last `period`, by the keys of `columns`.

    `period` is an interval of Postgres, such as `28 days`. Differences younger than `tolerated` seconds are no
    error.
    """
    limits = {"period": period, "tolerated": tolerated}
    given = {"list_fields": list(columns_of(Source.LIST)), "detail_fields": list(columns_in(DETAIL))}
    pulls = [(compared, wrong) for compared, wrong in queries.execute(connection, _PULLS, **limits)]
    found_samples = queries.execute(connection, _SAMPLES, **limits, **given)
    samples = {row[0]: (row[1], row[2], row[3], row[4]) for row in found_samples}
    found: dict[str, Findings] = {}
    for key, names in columns.items():
        row = queries.execute(connection, _DIFFERENCES, period=period, fields=list(names)).one()
        stale, censored, late, lost, unexplained, last_check_at = row
        staleness = tuple(stale) if stale else (None, None, None, None)
        censored_share = None if censored is None else float(censored)
        found[key] = Findings(pulls, samples, staleness, censored_share, late, lost, unexplained, last_check_at)
    return found


FIGURES = tuple(column.name for column in accuracy_figures.columns if column.name != "computed_at")
_WRITE = f"""
    INSERT INTO headshotpro.accuracy_figures ({", ".join(FIGURES)}, computed_at)
    VALUES ({", ".join(f":{name}" for name in FIGURES)}, now())
    ON CONFLICT (period, fields) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in (*FIGURES[2:], "computed_at"))}
"""  # noqa: S608 - names of our own columns


def write_figures(connection: Connection, figures: Sequence[Mapping[str, Any]]) -> None:
    """Replace the figures of periods; takes mappings with the keys of `FIGURES`."""
    for row in figures:
        queries.run(connection, _WRITE, **row)


# The view gives no verdict on figures that are older; the API and the alerts do not use them.
FRESH_FOR = timedelta(minutes=5)


def read_figures(connection: Connection) -> list[dict[str, Any]]:
    """The rows of the view `accuracy`, the shortest period first."""
    return queries.rows(connection, "SELECT * FROM headshotpro.accuracy ORDER BY CAST(period AS interval), fields DESC")


def measured(connection: Connection) -> dict[str, Any] | None:
    """How wrong the fields of the list were in the longest period: `rate`, `upper_95`, `period`, `last_check_at`.

    None while nothing was compared, and where the figures are old. It reads one row of a table of six.
    """
    statement = """
        SELECT rate, upper_95, period, last_check_at FROM headshotpro.accuracy_figures
        WHERE period = '28d' AND fields = 'list' AND rate IS NOT NULL AND last_check_at IS NOT NULL
            AND computed_at >= now() - CAST(:fresh_for AS interval)
    """
    return queries.row(connection, statement, fresh_for=FRESH_FOR)

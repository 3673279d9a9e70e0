"""Rules that each revision keeps, read off the SQL that goes on from the one before it: older code serves meanwhile.

A made-up last revision is held to them as well: it does everything that a revision may do to tables in use.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

import pytest

from service.storage.migrations import schema
from tests.support.upgrades import made_up_revision

with made_up_revision():
    STEPS = list(pairwise(schema.revisions()))
NAME = r"headshotpro\.(\w+)"
# They block no statement: settings of storage, and constraints that are checked on new rows only.
HARMLESS = re.compile(rf"ALTER TABLE {NAME} (SET \(|VALIDATE )")
# Columns that older code would miss, or statements that read or write a whole table under a lock.
FORBIDDEN = re.compile(
    r"DROP (TABLE|COLUMN|VIEW|CONSTRAINT)|RENAME|SET NOT NULL|ALTER COLUMN \w+ TYPE"
    r"|ADD (CONSTRAINT|FOREIGN|CHECK)(?!.*NOT VALID)|CREATE (UNIQUE )?INDEX (?!CONCURRENTLY)"
)


@cache
def all_steps() -> str:
    """The SQL of every step, one after another; printed when a test asks, as every test process imports this file."""
    with made_up_revision():
        return schema.script(STEPS[0][0])


def statements(before: str, after: str) -> list[str]:
    """The statements of the step to a revision, one a line; those that create tables left out."""
    printed = all_steps().partition(f"{before} -> {after}")[2].partition("-- Running upgrade")[0]
    found = [" ".join(one.split()) for one in re.split(r";\n", re.sub(r"--.*", "", printed))]
    return [one for one in found if one and one != "COMMIT"]


def new_tables(step: list[str]) -> set[str]:
    return {match[1] for one in step if (match := re.match(rf"CREATE TABLE {NAME}", one))}


@pytest.mark.parametrize(("before", "after"), STEPS)
def test_nothing_is_taken_away_and_no_table_is_rewritten(before: str, after: str) -> None:
    step = statements(before, after)
    new = new_tables(step)
    on_old = [one for one in step if not any(f"ON headshotpro.{table} " in one for table in new)]
    assert [one for one in on_old if FORBIDDEN.search(one)] == []


@pytest.mark.parametrize(("before", "after"), STEPS)
def test_revisions_alter_tables_only_under_locks_taken_together(before: str, after: str) -> None:
    step = statements(before, after)
    new = new_tables(step)
    locks = [place for place, one in enumerate(step) if one.startswith("LOCK TABLE")]
    locked = set(re.findall(NAME, "".join(step[place] for place in locks)))
    altered = {match[1] for one in step if (match := re.match(rf"ALTER TABLE {NAME}", one)) and not HARMLESS.match(one)}
    referred = {table for one in step for table in re.findall(rf"REFERENCES {NAME}", one)}
    assert (altered | referred) - new <= locked
    assert len(locks) <= 1


@pytest.mark.parametrize(("before", "after"), STEPS)
def test_what_cannot_be_rolled_back_comes_first(before: str, after: str) -> None:
    step = [one for one in statements(before, after) if one != "BEGIN"]
    outside = [place for place, one in enumerate(step) if "CONCURRENTLY" in one]
    assert outside == list(range(len(outside)))


def test_the_rules_find_what_they_forbid() -> None:
    bad = (
        "ALTER TABLE headshotpro.models DROP COLUMN uid",
        "ALTER TABLE headshotpro.models RENAME uid TO person",
        "ALTER TABLE headshotpro.models ALTER COLUMN uid SET NOT NULL",
        "ALTER TABLE headshotpro.models ALTER COLUMN uid TYPE int",
        "ALTER TABLE headshotpro.models ADD CONSTRAINT c CHECK (uid <> '')",
        "CREATE INDEX i ON headshotpro.models (uid)",
        "CREATE UNIQUE INDEX i ON headshotpro.models (uid)",
    )
    good = (
        "ALTER TABLE headshotpro.models ADD COLUMN mood TEXT",
        "ALTER TABLE headshotpro.models ADD CONSTRAINT c CHECK (uid <> '') NOT VALID",
        "CREATE INDEX CONCURRENTLY i ON headshotpro.models (uid)",
    )
    assert [bool(FORBIDDEN.search(one)) for one in bad] == [True] * len(bad)
    assert [bool(FORBIDDEN.search(one)) for one in good] == [False] * len(good)

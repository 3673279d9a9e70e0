"""A drain is killed between any two of its steps: the batch is applied by another one, once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.system import ROOT

EXACT = {
    "statuses": {"one": "active", "other": "deleted"},
    "changes": {"one": ["waiting", "active"], "other": ["deleted"]},
    # Twice delivered and read by two drains: still two deliveries.
    "deliveries": [2, 1, 1],
    "left": 0,
}
# The trips of a batch, by the first three words of each statement; a drain of the spool takes its deliveries, too.
BATCH = [
    "BEGIN ISOLATION LEVEL",
    "SELECT model_id, core_at,",
    "SELECT headshotpro.write_merged_1(clocks_text =>",
    "the commit",
]
SPOOLED = [*BATCH[:1], "WITH oldest AS", *BATCH[1:]]


@pytest.mark.parametrize("source", ["inbox", pytest.param("spool", marks=pytest.mark.long)])
def test_a_drain_that_is_killed_at_any_step_is_applied_once(source: str, database_url: str, redis_url: str) -> None:
    command = [sys.executable, "-m", "tests.faults.killed_drains", source, database_url, redis_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    # The other lines are logs.
    drains = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    steps = [drain.pop("step") for drain in drains]
    assert [drain for drain in drains if drain != EXACT] == []
    assert steps[-1] is None, "the last drain was not killed: no step is left"
    # Each trip to Postgres was a step on both sides.
    trips = BATCH if source == "inbox" else SPOOLED
    assert [step for step in steps[:-1] if "Redis" not in step] == [
        f"{side} {trip}" for trip in trips for side in ("before", "after")
    ]
    assert ("before a command of Redis" in steps) == (source == "inbox")

"""The workflow of the hosted CI: the commands of a contributor, every Python of the package, nothing unpinned."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.support.system import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
COMMIT = re.compile(r"^[\w-]+/[\w/-]+@[0-9a-f]{40}$")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def jobs() -> list[Any]:
    return [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]


def steps(key: str) -> list[str]:
    return [step[key] for job in jobs() for step in job["steps"] if key in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_it_may_read_and_nothing_else(path: Any) -> None:
    document = yaml.safe_load(path.read_text())
    assert document["permissions"] == {"contents": "read"}
    assert [job for job in document["jobs"].values() if "permissions" in job] == []


def test_every_action_is_pinned_to_a_commit_and_its_version_told() -> None:
    used = steps("uses")
    assert used
    assert [one for one in used if not COMMIT.match(one)] == []
    lines = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert [line for line in lines if not re.search(r" # v\d+\.\d+\.\d+$", line)] == []


def test_it_runs_what_the_makefile_has() -> None:
    ran = {line.split()[1] for line in steps("run") if line.startswith("make ") and not line.startswith("make .")}
    assert {"check", "test-all", "test", "test-long", "audit", "docs", "dist"} <= ran <= TARGETS


def test_every_python_of_the_package_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    tested = [job["strategy"]["matrix"]["python"] for job in jobs() if "strategy" in job]
    assert tested == [named]
    assert project["requires-python"] == f">={named[0]}"


def test_every_job_ends_by_itself() -> None:
    assert [job for job in jobs() if not job.get("timeout-minutes")] == []

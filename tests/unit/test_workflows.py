"""The workflow of the hosted CI: the commands of a contributor, every Python of the package, nothing unpinned."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.support.system import ROOT
from tests.support.tools import checked, found

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
COMMIT = re.compile(r"^[\w-]+/[\w/-]+@[0-9a-f]{40}$")
# Those keys of a hook that this file may use (https://pre-commit.com/#pre-commit-configyaml---hooks).
HOOK_KEYS = {"id", "name", "entry", "language", "files", "types", "types_or", "pass_filenames"}
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


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        *(("vendor.github-workflows", path) for path in WORKFLOWS),
        ("vendor.dependabot", ROOT / ".github" / "dependabot.yml"),
    ],
    ids=lambda given: getattr(given, "name", given),
)
def test_configuration_of_the_host_fits_its_schema(schema: str, path: Any) -> None:
    assert "ok" in checked("check-jsonschema", "--builtin-schema", schema, path)


def test_dependabot_looks_at_each_folder_of_pins() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    folders = {one["package-ecosystem"]: ROOT / one["directory"].lstrip("/") for one in updates}
    assert folders["github-actions"] == ROOT
    assert sorted(folders["pip"].glob("*.txt"))
    assert (folders["docker"] / "Dockerfile").exists()


def test_hooks_run_the_pinned_tools_and_fetch_nothing() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    makefile = (ROOT / "Makefile").read_text()
    for hook in repo["hooks"]:
        program, *words = hook["entry"].split()
        assert (hook["language"], program.rpartition("/")[0]) == ("system", ".venv/bin")
        assert found(program.rpartition("/")[2]), program
        assert {"id", "name", "entry", "language"} <= hook.keys() <= HOOK_KEYS
        if "check-jsonschema" not in program:
            assert " ".join([f"$(BIN)/{program.rpartition('/')[2]}", *words[:1]]) in makefile


def test_every_job_ends_by_itself() -> None:
    assert [job for job in jobs() if not job.get("timeout-minutes")] == []

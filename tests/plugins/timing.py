"""Says at the end of a run where its time went: by folder, and in which tests and set-ups most."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

SHOWN = 10
# Below these numbers there is nothing to say.
LEAST_TESTS = 50
LEAST_SECONDS = 1.0
PHASES = ("setup", "call", "teardown")


class Timing:
    """Adds up what reports say, in the process that reports them."""

    def __init__(self) -> None:
        self._by_folder: defaultdict[str, Counter[str]] = defaultdict(Counter)
        # A test whose process died is reported in a phase of its own.
        self._by_phase: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = "/".join(report.nodeid.partition("::")[0].split("/")[:2])
        self._by_folder[folder][report.when] += report.duration
        self._by_folder[folder]["tests"] += report.when == "call"
        self._by_phase[report.when][report.nodeid] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if sum(counts["tests"] for counts in self._by_folder.values()) < LEAST_TESTS:
            return
        terminalreporter.section("where the time went (seconds, of all test processes together)")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> Iterable[str]:
        """The table and the two lists."""
        yield f"{'':<20}{'tests':>8}{'set-up':>9}{'test':>9}{'end':>9}"
        for folder, counts in sorted(self._by_folder.items()):
            yield f"{folder:<20}{counts['tests']:>8}" + "".join(f"{counts[phase]:>9.1f}" for phase in PHASES)
        for phase, words in (("call", "slowest tests"), ("setup", "slowest set-ups")):
            slow = [(node, took) for node, took in self._by_phase[phase].most_common(SHOWN) if took >= LEAST_SECONDS]
            if slow:
                yield f"{words}:"
            yield from (f"{took:>9.1f}  {node}" for node, took in slow)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Timing())

"""docs/guarantees.md: each line names tests that exist, and a run that does not show one of them fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.plugins.guarantees import DOCUMENT, Names, guarantees
from tests.support.nested import nested_pytest
from tests.support.system import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """
# A project

## What it guarantees, and the test that shows it
| guarantee | shown by |
|---|---|
| One holds | `tests/test_one.py` |

### Others
| guarantee | shown by |
|---|---|
| So does the other | `test_two.py::test_kept`, `make storm` |

## Settings
| name | default |
|---|---|
| `tests/test_none.py` | none |
"""
ONE = "import pytest\n\n@pytest.mark.parametrize('n', [1, 2])\ndef test_a(n): ...\n"
TWO = "import pytest\n\n@pytest.mark.xdist_group('two')\ndef test_kept(): ...\n\ndef test_other(): pytest.skip()\n"


def test_every_guarantee_names_tests_that_exist() -> None:
    lines = guarantees((ROOT / DOCUMENT).read_text())
    names = Names(ROOT)
    assert len(lines) > 30
    assert {line.words: faults for line in lines if (faults := list(names.faults(line)))} == {}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with a table of two lines and three tests."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "docs").mkdir()
    for name, text in {
        DOCUMENT: PAGE,
        "Makefile": "storm:\n",
        "tests/test_one.py": ONE,
        "tests/test_two.py": TWO,
        "pytest.ini": "[pytest]\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def faults(checkout: Path, shown_by: str) -> list[str]:
    (line,) = guarantees(PAGE.replace("`tests/test_one.py`", shown_by))[:1]
    return list(Names(checkout).faults(line))


@pytest.mark.parametrize(
    ("shown_by", "why"),
    [
        ("by reading it", "names no test"),
        ("`make storm`", "names no test"),
        ("`tests/test_one.py`, `make tea`", "make tea is no command"),
        ("`tests/test_three.py`", "does not exist"),
        ("`test_one.py::test_b`", "does not exist"),
        ("`test_one.py`, `tests/corpus/`", "is no folder"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_fault(checkout: Path, shown_by: str, why: str) -> None:
    (found,) = faults(checkout, shown_by)
    assert why in found


def run(checkout: Path, *options: str) -> tuple[int, str]:
    """A run of the project's tests in two processes: its exit status and what it printed."""
    done = nested_pytest(checkout, "-p", "tests.plugins.guarantees", *options)
    return done.returncode, done.stdout


def test_a_run_in_which_all_named_tests_pass_succeeds(checkout: Path) -> None:
    status, said = run(checkout, "--guarantees")
    assert status == 0, said
    assert "3 passed, 1 skipped" in said


def test_a_part_of_the_tests_may_run_without_the_check(checkout: Path) -> None:
    status, said = run(checkout, "-n0", "-k", "test_kept")
    assert status == 0, said


@pytest.mark.parametrize(
    ("options", "named", "why"),
    [
        pytest.param(["-k", "not test_kept"], "test_two.py::test_kept", "test_kept did not run", id="left out"),
        pytest.param([], "test_two.py", "test_other was skipped", id="skipped"),
        pytest.param([], "test_two.py::test_gone", "test_two.py::test_gone does not exist", id="not there"),
    ],
)
def test_a_run_that_does_not_show_a_guarantee_fails(checkout: Path, options: list[str], named: str, why: str) -> None:
    (checkout / DOCUMENT).write_text(PAGE.replace("test_two.py::test_kept", named))
    status, said = run(checkout, "--guarantees", "-n0", *options)
    assert status == 1, said
    assert why in said
    # The closing line shows it, too.
    assert "1 error" in said.splitlines()[-1]

"""How a run is distributed: what shares a deployment stays in one process, and slow folders begin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.plugins.order import rank
from tests.support.nested import nested_pytest
from tests.support.system import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
import os
import pytest

@pytest.mark.xdist_group("a shared deployment")
@pytest.mark.parametrize("number", range(8))
def test_it(number):
    with open("processes", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
"""


def test_tests_of_one_group_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name in ("test_one.py", "test_other.py"):
        (tmp_path / name).write_text(TESTS)
    done = nested_pytest(tmp_path)
    assert "16 passed" in done.stdout, done.stdout
    assert len(set((tmp_path / "processes").read_text().split())) == 1


ORDERED = {
    "test_a_plain.py": "def test_it(): pass",
    "test_c_long.py": "import pytest\n@pytest.mark.long\ndef test_it(): pass",
    "test_d_grouped.py": "import pytest\n@pytest.mark.xdist_group('one')\ndef test_it(): pass",
}


def test_groups_and_long_tests_come_first(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = long\n")
    for name, text in ORDERED.items():
        (tmp_path / name).write_text(text)
    done = nested_pytest(tmp_path, "-p", "tests.plugins.order", "-n0", "-v")
    found = re.findall(r"^(test_\w+.py)::test_it", done.stdout, re.MULTILINE)
    assert found == ["test_d_grouped.py", "test_c_long.py", "test_a_plain.py"], done.stdout


def test_slow_folders_come_first() -> None:
    files = ["unit/test_a.py", "new/test_b.py", "faults/test_c.py", "integration/test_d.py"]
    found = sorted(files, key=lambda file: rank(ROOT / "tests" / file))
    assert found == ["new/test_b.py", "faults/test_c.py", "integration/test_d.py", "unit/test_a.py"]


def test_folder_of_the_checkout_sets_no_order(tmp_path: Path) -> None:
    checkout = tmp_path / "faults" / "tests"
    assert rank(checkout / "unit" / "test_a.py") == rank(ROOT / "tests" / "unit" / "test_a.py")

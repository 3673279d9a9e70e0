"""References in backquotes, such as `service.mirror.apply`, name a module, or something in one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("service", "workers") for path in (ROOT / folder).rglob("*.py"))
REFERENCE = re.compile(r"`((?:service|workers)(?:\.\w+)+)`")


def test_every_reference_in_the_code_names_something_that_exists() -> None:
    texts = {_module_name(path): path.read_text() for path in FILES}
    known = set(texts)
    for module, text in texts.items():
        known |= {f"{module}.{name}" for name in _names(text)}
    found = {(module, reference) for module, text in texts.items() for reference in REFERENCE.findall(text)}
    assert found
    assert sorted((module, reference) for module, reference in found if reference not in known) == []


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _names(text: str) -> set[str]:
    """The functions, classes and variables of a module."""
    names: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return names

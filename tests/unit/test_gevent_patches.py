"""Web's modules look up what gevent replaces when they use it, so the order of imports does not matter."""

from __future__ import annotations

import subprocess
import sys

# Names of the standard library that web's modules still have as they were before gevent replaced them.
HELD = """
import importlib, sys
from gevent import monkey
from service.web import app
patched = "_thread os queue select selectors signal socket ssl subprocess threading time".split()
before = {name: dict(vars(importlib.import_module(name))) for name in patched}
monkey.patch_all()
replaced = {
    id(value): f"{name}.{key}" for name, values in before.items() for key, value in values.items()
    if not key.startswith("__") and vars(sys.modules[name]).get(key) is not value
}
assert "time.sleep" in replaced.values()
ours = {name: module for name, module in sys.modules.items() if name.startswith("service.")}
assert len(ours) > 100
for name, module in ours.items():
    for key, value in vars(module).items():
        if id(value) in replaced:
            print(name, "imports", replaced[id(value)])
"""


def test_web_imports_nothing_by_name_that_gevent_replaces() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", HELD], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == []

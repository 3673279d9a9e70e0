"""Compiled templates in memory: gunicorn's master compiles all of them once, for the workers, which are its forks.

Jinja compiles a template where it is first used, and all that it imports: 65 ms of processor time for the first page
of a process. A web process does one thing at a time, so deliveries would wait for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import BytecodeCache

if TYPE_CHECKING:
    from flask import Flask
    from jinja2.bccache import Bucket


class CompiledTemplates(BytecodeCache):
    """The templates that this process, or the one that it is a fork of, has compiled.

    The applications of a process share it, so their environments have to have the same options.
    """

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load a template that is known; Jinja compiles it anew where its source has changed since."""
        if bucket.key in self._known:
            bucket.bytecode_from_string(self._known[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a template that was just compiled."""
        self._known[bucket.key] = bucket.bytecode_to_string()


OPTIONS = {"bytecode_cache": CompiledTemplates(), "trim_blocks": True, "lstrip_blocks": True}


def compile_all(app: Flask) -> None:
    """Compile every template of an application that is not known yet."""
    for name in app.jinja_env.list_templates():
        app.jinja_env.get_template(name)

"""The person who acts where a test calls a function in place of a command."""

from __future__ import annotations

from service.storage.audit import COMMAND_LINE, Actor

TESTER = Actor("tester", COMMAND_LINE, None)

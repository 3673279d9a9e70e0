"""`headshot-mirror sandbox`: the command lives with the sandbox, which must not know this command line."""

from __future__ import annotations

from service.local.sandbox.command import sandbox

__all__ = ["sandbox"]

"""`python -m service.local.sandbox`: the sandbox without the rest of the command line."""

from __future__ import annotations

from service.local.sandbox.command import sandbox

if __name__ == "__main__":
    sandbox(prog_name="python -m service.local.sandbox")

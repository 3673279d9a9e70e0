"""The command line: `headshot-mirror`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command of this process (`service.cli.commands.run`)."""
    # Python would print a traceback for a SIGINT that comes while it imports: held, it ends the process just after.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    from service.signal_handlers import end_on_signals

    end_on_signals()
    from service.cli.commands import run

    run()

"""How often a process searches for garbage in cycles: it makes tens of thousands of objects and hardly a cycle."""

from __future__ import annotations

import atexit
import gc

# By default it searches after 700 more objects than were freed: a seventh of the processor time of imports and batches.
GC_THRESHOLD = 50_000
_USUAL = gc.get_threshold()


def collect_rarely() -> None:
    """Search for cycles rarely in this process, and not at its end; called before most is imported.

    The interpreter's last search looks at all that was imported: it takes a quarter of the time of a short command.
    """
    gc.set_threshold(GC_THRESHOLD)
    atexit.register(gc.freeze)


def collect_as_usual() -> None:
    """Search as Python does by itself, but not among what is there already, for a process that runs for months."""
    gc.freeze()
    gc.set_threshold(*_USUAL)

"""A side of a bench in a process of its own: it says when it is ready, goes when it is told, and says what it did."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

from service.parent_death import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path


@contextmanager
def measured() -> Iterator[dict[str, Any]]:
    """Inside such a process: the block begins with the word, and what it puts into the mapping is told at its end."""
    print("ready", flush=True)
    sys.stdin.readline()
    result: dict[str, Any] = {}
    yield result
    print(json.dumps(result), flush=True)


def run(command: Sequence[str | Path], meter: AbstractContextManager[object], folder: Path) -> dict[str, Any]:
    """Start such a process, let it go while the meter runs, and return what it told."""
    with subprocess.Popen(
        die_with_parent(list(command), SIGTERM), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready == "ready\n", (command, ready)
        with meter:
            process.stdin.write("go\n")
            process.stdin.flush()
            told = process.stdout.readline()
        process.stdin.close()
        assert process.wait(60) == 0, command
    result: dict[str, Any] = json.loads(told)
    return result

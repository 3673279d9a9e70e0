"""`make bench`: every bench one after another, each in a process of its own; prints and writes `RESULTS.md`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.bench.report import machine

# In the order of the work: into the door, into the row, out of the list, and what all of it costs as it grows.
BENCHES = ("door", "rows", "pulls", "growth")
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# What was measured

`make bench` wrote this. Ratios within one run on one machine are what counts: sides took turns, and each ratio was
taken round by round (median, least to greatest). Peers that were not installed (`make bench-peers`) are named as
missing.

"""


def main() -> int:
    """Run them; 1 where one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("benches", nargs="*", choices=[*BENCHES, []], help="some of them; all by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that is written")
    given = parser.parse_args()
    parts, failed = [], False
    for bench in given.benches or BENCHES:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.bench.{bench}"], stdout=subprocess.PIPE, text=True, check=False
        )
        failed = failed or done.returncode != 0
        parts.append(done.stdout if done.returncode == 0 else f"## {bench}\n\nIt failed: nothing was measured.\n")
        print(parts[-1], flush=True)
    given.results.write_text(HEAD + machine() + "\n\n" + "\n".join(parts))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

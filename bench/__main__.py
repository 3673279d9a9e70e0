"""`make bench`: every bench one after another, each in a process of its own; prints and writes `RESULTS.md`.

A bench that is not run this time keeps its part of that file; each part tells when and where it was measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.report import machine, stolen, ticks

# In the order of the work: into the endpoint, into the row, out of the list, and what all of it costs as it grows.
BENCHES = ("webhooks", "rows", "pulls", "growth")
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# What was measured

`make bench` wrote this. Ratios within one run on one machine are what counts: sides took turns, and each ratio was
taken round by round (median, least to greatest). Peers that were not installed (`make bench-peers`) are named as
missing.
"""
MARK = "\n<!-- {} -->\n"


def known_parts(text: str) -> dict[str, str]:
    """The part of each bench in what was written before."""
    found = {}
    for bench in BENCHES:
        _, began, rest = text.partition(MARK.format(bench))
        if began:
            ends = [place for other in BENCHES if (place := rest.find(MARK.format(other))) >= 0]
            found[bench] = rest[: min(ends, default=len(rest))]
    return found


def main() -> int:
    """Run them; 1 where one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benches", nargs="*", choices=[*BENCHES, []], help="some of them; all by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that is written")
    given = parser.parse_args()
    parts = known_parts(given.results.read_text()) if given.results.exists() else {}
    failed = False
    for bench in given.benches or BENCHES:
        began = ticks()
        done = subprocess.run([sys.executable, "-m", f"bench.{bench}"], stdout=subprocess.PIPE, text=True, check=False)
        failed = failed or done.returncode != 0
        told = done.stdout if done.returncode == 0 else f"## {bench}\n\nIt failed: nothing was measured.\n"
        title, _, rest = told.partition("\n")
        parts[bench] = f"{title}\n\n{machine()}; {stolen(began)}\n{rest}"
        print(parts[bench], flush=True)
    kept = (MARK.format(bench) + parts[bench].rstrip("\n") + "\n" for bench in BENCHES if bench in parts)
    given.results.write_text(HEAD + "".join(kept))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

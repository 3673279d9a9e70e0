"""`make bench`: every bench in a process of its own, one after another; prints and writes `RESULTS.md`.

A bench that is not run this time keeps its part of that file. Each part says when and where it was measured.
"""

import re
import subprocess
import sys
from pathlib import Path

import click

from bench.report import machine

# In the order of the work: into the endpoint, into the row, out of the list, and the cost as it grows.
BENCHES = ("webhooks", "rows", "latency", "pulls", "growth")
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Measured

`make bench` wrote this. Ratios within one run on one machine are what counts: sides took turns, and each ratio was
taken round by round (median, least to greatest). Peers that were not installed (`make bench-peers`) are named as
missing.
"""
MARK = "\n<!-- {} -->\n"


def known_parts(text: str) -> dict[str, str]:
    """The part of each bench in a file of results."""
    _, *found = re.split(MARK.format("(.*)"), text)
    return dict(zip(found[::2], found[1::2], strict=True))


@click.command()
@click.argument("benches", nargs=-1, type=click.Choice(BENCHES))
@click.option("--results", default=RESULTS, type=click.Path(path_type=Path), help="The file that is written.")
def main(benches: tuple[str, ...], results: Path) -> None:
    """Run some of the benches, or all; exit 1 if one of them fails."""
    parts = known_parts(results.read_text()) if results.exists() else {}
    failed = False
    for bench in benches or BENCHES:
        done = subprocess.run([sys.executable, "-m", f"bench.{bench}"], stdout=subprocess.PIPE, text=True, check=False)
        failed |= done.returncode != 0
        title, _, rest = (f"## {bench}\n\nIt failed.\n" if done.returncode else done.stdout).partition("\n")
        parts[bench] = f"{title}\n\n{machine()}\n{rest}"
        print(parts[bench], flush=True)
    kept = (MARK.format(bench) + parts[bench].rstrip("\n") + "\n" for bench in BENCHES if bench in parts)
    results.write_text(HEAD + "".join(kept))
    sys.exit(failed)


if __name__ == "__main__":
    main()

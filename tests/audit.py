"""`make audit`: are the pinned packages of a deployment known to be vulnerable? pip-audit asks, this reads its answer.

pip-audit calls packages that its service does not know "skipped" and ends with 0 when it skipped them all, and it ends
with a traceback where no service responds. Neither may look like "nothing found", and neither is a vulnerability.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

REQUIREMENTS = Path(__file__).parents[1] / "requirements" / "run.txt"
TIMEOUT_SECONDS = 180

# Messages of pip-audit and its HTTP library when no server responds.
UNREACHABLE = ("ConnectionError", "Could not connect", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError")


class Outcome(NamedTuple):
    """The result of an audit.

    Attributes:
        status: for the shell: 1 when a package is vulnerable or the audit itself is broken.
        words: for people.
    """

    status: int
    words: str


def main(arguments: list[str]) -> int:
    """Audit the pinned packages; arguments are handed on to pip-audit (`-r FILE` replaces our own file)."""
    files = [] if "-r" in arguments else ["-r", str(REQUIREMENTS)]
    # The file names every package with its hashes: nothing is to be resolved or installed.
    command = [sys.executable, "-m", "pip_audit", "-f", "json", "--disable-pip", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*command, *files, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        outcome = _absent(f"no answer in {TIMEOUT_SECONDS} s")
    else:
        outcome = judge(done.stdout, done.stderr)
    print(outcome.words)  # noqa: T201 - a command line prints
    return outcome.status


def judge(document: str, complaints: str) -> Outcome:
    """Read what pip-audit printed.

    Args:
        document: its standard output; JSON unless it failed.
        complaints: its standard error.
    """
    try:
        packages = json.loads(document)["dependencies"]
    except ValueError:
        found = [words for words in UNREACHABLE if words in complaints]
        return _absent(found[0]) if found else Outcome(1, f"audit: pip-audit failed:\n{complaints}")
    vulnerable = [package for package in packages if package.get("vulns")]
    known = [package for package in packages if "skip_reason" not in package]
    if vulnerable:
        return Outcome(1, "\n".join(line for package in vulnerable for line in _lines(package)))
    if not known:
        return _absent(f"it knows none of the {len(packages)} packages")
    unknown = [package["name"] for package in packages if package not in known]
    rest = f"; not known to it: {', '.join(unknown)}" if unknown else ""
    return Outcome(0, f"audit: no known vulnerability in {len(known)} of {len(packages)} packages{rest}")


def _absent(why: str) -> Outcome:
    return Outcome(0, f"audit: NOT AUDITED, no vulnerability service answers here ({why})")


def _lines(package: dict[str, Any]) -> list[str]:
    """A line for each vulnerability of a package."""
    return [
        f"audit: {package['name']} {package['version']}: {vulnerability['id']}, "
        f"mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for vulnerability in package["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The console's files: what others wrote is what they published, and a first visit loads little."""

from __future__ import annotations

import gzip
import hashlib
import json
import re

from tests.support.system import ROOT

STATIC = ROOT / "service" / "web" / "console" / "static"
VENDOR = STATIC / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())["files"]
MOST_BYTES = 120_000


def test_vendored_files_are_those_of_the_manifest() -> None:
    others = {"manifest.json", *(one["license_file"] for one in MANIFEST)}
    assert {path.name for path in VENDOR.iterdir()} == {one["file"] for one in MANIFEST} | others
    for one in MANIFEST:
        assert hashlib.sha256((VENDOR / one["file"]).read_bytes()).hexdigest() == one["sha256"], one["file"]
        assert re.fullmatch(r"\d+\.\d+\.\d+", one["version"])
        assert one["license"] == "MIT"


def test_first_visit_loads_less_than_120_kilobytes() -> None:
    files = [path for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".svg")]
    assert len(files) >= 5
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < MOST_BYTES - 10_000


def test_own_style_sheet_stays_small() -> None:
    assert len((STATIC / "console.css").read_bytes()) < 12_000

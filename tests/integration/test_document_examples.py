"""Examples of the documents run: SQL as a reader, requests with curl; the site builds where its tools are installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from service.storage.reader import READER_ROLE
from tests.support.api import KEY, KEYS, Api
from tests.support.markdown import blocks, table_rows
from tests.support.system import ROOT, System

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import Mirror, StartMirror

# `test_dashboards.py` and `test_roles.py` run these.
ELSEWHERE = {"docs/dashboards.md", "docs/operations/roles.md"}
# The reader of the feed writes a table of its own; `test_changes.py` runs its statements.
QUERIES = [block for block in blocks("sql") if block.document not in ELSEWHERE and "readers" not in block.text]
ADDRESS = "http://127.0.0.1:8000"


def test_every_query_runs_as_a_reader(mirrored: Mirror) -> None:
    assert len(QUERIES) > 5
    with psycopg.connect(mirrored.settings.postgres_url) as connection:
        connection.execute(f"set role {READER_ROLE}".encode())
        for query in QUERIES:
            assert connection.execute(query.text.encode()).description, query


def test_every_request_to_web_gets_the_response_of_the_api(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=40)
    assert here.pull()["status"] == "complete"
    examples = [
        block for block in blocks("sh") if re.search("^curl ", block.text, re.MULTILINE) and ADDRESS in block.text
    ]
    assert {block.document for block in examples} == {"README.md", "docs/api.md"}
    # README takes the key from where `up` keeps it.
    kept = folder / ".headshot-mirror" / "sandbox" / "demo-api-key"
    kept.parent.mkdir(parents=True)
    kept.write_text(KEY)
    with System(folder, **here.variables | {"MIRROR_API_KEYS": KEYS}) as system:
        system.start("web")
        system.wait_for_web()
        for block in examples:
            script = block.text.replace(ADDRESS, system.url).replace("KEY=your-key", f"KEY={KEY}")
            done = subprocess.run(
                ["sh", "-c", script], cwd=folder,
                env=os.environ | {"KEY": KEY, "NO_PROXY": "127.0.0.1"}, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert done.stderr == "", block
            assert json.loads(done.stdout)["success"] is True, (block, done.stdout)


def test_the_response_in_the_readme_has_the_fields_of_the_api(mirrored: Mirror) -> None:
    (block,) = (block for block in blocks("json") if block.document == "README.md")
    shown, got = json.loads(block.text), Api.of(mirrored).get("?status=active&limit=1")
    assert shown.keys() == got.keys()
    assert shown["pagination"].keys() == got["pagination"].keys()
    assert shown["models"][0].keys() == got["models"][0].keys()


def test_every_metric_is_documented(mirrored: Mirror) -> None:
    page = Api.of(mirrored).app.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
    exposed = set(re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE))
    documented = re.findall(r"`(headshotpro_\w+)`", " ".join(row[0] for row in table_rows("docs/metrics.md")))
    # Redis has no `maxmemory` here.
    assert exposed == set(documented) - {"headshotpro_redis_memory_ratio"}


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="the tools of `make docs` are not installed")
def test_the_site_is_built_without_a_warning(folder: Path) -> None:
    recipe = (ROOT / "Makefile").read_text()
    options = re.findall(r"python -m sphinx (.*) docs site$", recipe, re.MULTILINE)[0].split()
    subprocess.run([sys.executable, "-m", "sphinx", *options, "docs", folder / "site"], cwd=ROOT, check=True)
    assert (folder / "site" / "decisions" / "index.html").is_file()

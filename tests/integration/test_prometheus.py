"""deploy/prometheus: what Prometheus' own tool says of it, and a real Prometheus that scrapes a real mirror by it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from signal import SIGTERM
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import urllib3
import yaml

from service.parent_death import die_with_parent
from tests.support.documents import DEPLOY
from tests.support.ports import free_port
from tests.support.processes import eventually
from tests.support.system import ROOT, System, event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = DEPLOY / "prometheus"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    not (PROMETHEUS and PROMTOOL), reason="Prometheus is not installed (on Debian: apt install prometheus)"
)
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FILES / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]


def anchors() -> set[str]:
    """The headings of the runbook as a link names them: lower case, hyphens for spaces, punctuation left out."""
    headings = re.findall(r"^##+ (.+)$", (ROOT / "docs" / "operations" / "runbook.md").read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_rule_leads_to_a_section_of_the_runbook(rule: dict[str, Any]) -> None:
    document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert document == "docs/operations/runbook.md"
    assert anchor in anchors()
    assert rule["labels"]["severity"] in {"critical", "warning"}


@pytest.fixture
def config(folder: Path) -> Path:
    """A copy of the files with a key beside them."""
    copy = folder / "prometheus"
    shutil.copytree(FILES, copy)
    (copy / "headshot-mirror.key").write_text("look\n")
    return copy


def promtool(config: Path, *words: str) -> None:
    assert PROMTOOL
    done = subprocess.run([PROMTOOL, *words], cwd=config, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_promtool_has_nothing_to_say_against_them(config: Path) -> None:
    promtool(config, "check", "config", "--lint-fatal", "prometheus.yml")
    promtool(config, "check", "rules", "--lint-fatal", "alerts.yml")


@needs_prometheus
def test_the_rules_fire_when_they_should_and_not_before(config: Path) -> None:
    promtool(config, "test", "rules", "alerts_test.yml")


@pytest.fixture
def scraped(config: Path, folder: Path, database_url: str, redis_url: str) -> Iterator[tuple[System, str]]:
    """A mirror, and a Prometheus that scrapes it each second: the URL of its API."""
    assert PROMETHEUS
    settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "MIRROR_API_KEYS": "prometheus=metrics:look"}
    with System(folder, **settings) as system:
        system.start_all()
        given = yaml.safe_load((config / "prometheus.yml").read_text())
        (config / "targets.yml").write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{system.port}"]}]))
        given["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        (config / "prometheus.yml").write_text(yaml.safe_dump(given))
        address = f"127.0.0.1:{free_port()}"
        options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
        with (config / "log").open("wb") as log:
            process = subprocess.Popen(
                die_with_parent([PROMETHEUS, *options], SIGTERM), cwd=config, stdout=log, stderr=log
            )
        yield system, f"http://{address}/api/v1"
        process.terminate()
        process.wait(15)


@needs_prometheus
def test_prometheus_scrapes_the_mirror_and_loads_its_rules(scraped: tuple[System, str], config: Path) -> None:
    system, api = scraped
    http = urllib3.PoolManager(timeout=10, retries=False)

    def asked(path: str, **query: str) -> Any:
        try:
            answer = http.request("GET", f"{api}/{path}?{urlencode(query)}")
        except urllib3.exceptions.HTTPError:
            return None
        return json.loads(answer.data)["data"] if answer.status == 200 else None

    def value(query: str) -> float | None:
        found = (asked("query", query=query) or {}).get("result")
        return float(found[0]["value"][1]) if found else None

    assert system.deliver(event_body(new_id())).status == 202
    assert eventually(lambda: value('up{job="headshot-mirror"}') == 1), (config / "log").read_text()
    assert eventually(lambda: value('headshotpro_events_total{result="applied"}') == 1)
    assert eventually(lambda: value("headshotpro_event_to_row_seconds_count") == 1)
    assert value("sum(headshotpro_models)") == 1
    assert value("count(headshotpro_build_info)") == 1

    def health() -> dict[str, str]:
        groups = (asked("rules") or {}).get("groups", [])
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    assert eventually(lambda: health() == {rule["alert"]: "ok" for rule in RULES}), health()

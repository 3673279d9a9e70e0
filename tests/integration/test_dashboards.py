"""Each question and each panel for dashboard authors, run as the reader against a mirror of the sandbox."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from psycopg.rows import dict_row

from service.mirror import accuracy_figures
from service.storage.database import transaction
from service.storage.reader import READER_ROLE
from tests.support.documents import DEPLOY, Query, dashboards, panel_queries, questions

if TYPE_CHECKING:
    from tests.support.mirror import Mirror, StartMirror

PROVISIONING = DEPLOY / "grafana" / "provisioning"
QUESTIONS = {query.title: query for query in questions()}

# The panels for which the mirror below has no rows.
EMPTY = {"operations: Changes that no webhook announced", "operations: Processes"}


@pytest.fixture
def filled(mirror: StartMirror) -> Mirror:
    """A mirror in which everything that a dashboard asks about has happened, hours ago where it has to be."""
    here = mirror(models=60)
    here.enable_webhooks()
    (stuck, failing, leaving, ready) = here.create(4, status="pending")
    here.pull()
    here.advance_vendor_clock()
    here.change(failing["id"], status="failed", events=True)
    here.change(ready["id"], status="active", events=True)
    here.vendor.control("DELETE", f"/models/{leaving['id']}?events=1")
    here.apply_webhooks()
    here.sql(
        "update headshotpro.model_changes set observed_at = observed_at - interval '5 hours' where model_id = %s",
        stuck["id"],
    )
    here.sql("insert into headshotpro.alerts (kind, opened_at) values ('pull_stale', now())")
    here.sql(
        "insert into headshotpro.subscriptions (name, url, with_personal_data, state, cursor, read_to, secret, "
        "created_at) values ('orders', 'http://127.0.0.1:9/', false, 'active', 1, 0, 'whsec_none', now())"
    )
    with transaction(here.runtime.engine) as connection:
        accuracy_figures.compute(connection, here.settings.accuracy_slo)
    return here


def answers(here: Mirror, query: Query) -> list[dict[str, Any]]:
    """The rows that a reader gets."""
    with psycopg.connect(here.settings.postgres_url, row_factory=dict_row) as connection:
        connection.execute(f"set role {READER_ROLE}".encode())
        return connection.execute(query.sql.encode()).fetchall()


def test_every_question_of_the_document_is_answered(filled: Mirror) -> None:
    assert len(QUESTIONS) == 10
    found = {title: answers(filled, query) for title, query in QUESTIONS.items()}
    assert [title for title, rows in found.items() if not rows] == []
    by_status = {row["status"]: row["models"] for row in found["How many models are in each status?"]}
    assert sum(by_status.values()) == len(filled.truth())
    (fresh,) = found["Is the mirror fresh?"]
    assert fresh["pull_age_seconds"] < 120
    assert sum(row["failed"] for row in found["What happened in the last 30 days?"]) >= 1
    assert by_status["failed"] == len(found["Which models are failed now, the longest first?"])
    assert [row["status"] for row in found["Which models are stuck?"]] == ["pending"]
    assert "pending" in {row["status"] for row in found["How long does each status take?"]}
    assert {row["source"] for row in found["Do webhooks report changes, or do only pulls find them?"]} >= {
        "pull",
        "webhook",
    }


def test_every_panel_of_the_dashboards_has_something_to_show(filled: Mirror) -> None:
    queries = panel_queries()
    assert len(queries) > 15
    found = {query.title: answers(filled, query) for query in queries}
    assert {title for title, rows in found.items() if not rows} <= EMPTY


def test_a_line_over_time_has_a_time_first() -> None:
    for dashboard in dashboards().values():
        for panel in dashboard["panels"]:
            (target,) = panel["targets"]
            assert (panel["type"] == "timeseries") == (target["format"] == "time_series"), panel["title"]
            assert (" as time," in target["rawSql"]) == (panel["type"] == "timeseries"), panel["title"]


@pytest.mark.parametrize("name", dashboards())
def test_a_dashboard_is_what_grafana_expects(name: str) -> None:
    dashboard = dashboards()[name]
    source = yaml.safe_load((PROVISIONING / "datasources" / "headshot-mirror.yaml").read_text())["datasources"][0]
    provisioned = {"type": source["type"], "uid": source["uid"]}
    panels, variables = dashboard["panels"], dashboard["templating"]["list"]
    used = [panel["datasource"] for panel in panels] + [variable["datasource"] for variable in variables]
    used += [target["datasource"] for panel in panels for target in panel["targets"]]
    assert used == [provisioned] * len(used)
    assert dashboard["uid"] == f"headshot-mirror-{name}"
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert all(0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"] for panel in panels)
    for one, next_one in pairwise(panels):
        beside = one["gridPos"]["x"] + one["gridPos"]["w"] == next_one["gridPos"]["x"]
        below = next_one["gridPos"]["x"] == 0 and next_one["gridPos"]["y"] >= one["gridPos"]["y"] + one["gridPos"]["h"]
        assert beside or below, next_one["title"]
    told = {f"${{{variable['name']}:sqlstring}}" for variable in variables}
    asked = {word for panel in panels for word in ("${team:sqlstring}",) if word in str(panel["targets"])}
    assert asked == told


def test_provisioning_holds_no_secret_and_names_folder() -> None:
    source = yaml.safe_load((PROVISIONING / "datasources" / "headshot-mirror.yaml").read_text())["datasources"][0]
    assert source["secureJsonData"]["password"].startswith("$")
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "headshot-mirror.yaml").read_text())["providers"]
    assert provider["options"]["path"]

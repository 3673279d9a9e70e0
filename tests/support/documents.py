"""The SQL that users are given: the questions of docs/dashboards.md and the panels of the Grafana dashboards."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from tests.support.system import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"

_QUESTION = re.compile(r"^### (?P<title>.+?)\n.*?^```sql\n(?P<sql>.*?)^```$", re.MULTILINE | re.DOTALL)
# The macros that Grafana replaces before it sends a query: the range of time on the screen.
_MACRO = re.compile(r"\$__timeFilter\((?P<column>[^)]+)\)")


class Query(NamedTuple):
    """A query for people, ready to be run.

    Attributes:
        title: what it answers.
        sql: with every variable of Grafana's filled in.
    """

    title: str
    sql: str


def questions() -> list[Query]:
    """The questions of docs/dashboards.md."""
    document = (ROOT / "docs" / "dashboards.md").read_text()
    return [Query(found["title"], found["sql"].strip()) for found in _QUESTION.finditer(document)]


def dashboards() -> dict[str, dict[str, Any]]:
    """The Grafana dashboards by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panel_queries() -> list[Query]:
    """Every query of every panel and variable, as Grafana would send it for the last 30 days and all teams."""
    return [query for name, dashboard in dashboards().items() for query in _queries(name, dashboard)]


def _queries(name: str, dashboard: dict[str, Any]) -> list[Query]:
    variables = [(variable["name"], variable["query"]) for variable in dashboard["templating"]["list"]]
    targets = [(panel["title"], target["rawSql"]) for panel in dashboard["panels"] for target in panel["targets"]]
    return [Query(f"{name}: {title}", filled(sql)) for title, sql in [*variables, *targets]]


def filled(sql: str) -> str:
    """A panel's query with what Grafana fills in."""
    sql = _MACRO.sub(r"\g<column> BETWEEN now() - interval '30 days' AND now()", sql)
    sql = sql.replace("$__timeFrom()", "(now() - interval '30 days')").replace("$__timeTo()", "now()")
    return sql.replace("${team:sqlstring}", "select coalesce(team_id, '') from headshotpro.models")

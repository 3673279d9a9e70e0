"""The console's lists: filters, pages that miss nothing, files, and what hidden names hide."""

from __future__ import annotations

import csv
import re
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from service.web.console.presentation import HIDDEN, Names
from tests.support.console import console, log_in
from tests.support.console_world import ATTACKS, EVENT, HOSTILE_EVENT, HOSTILE_MODEL, MODEL, fill
from tests.support.system import rows

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient


@pytest.fixture(scope="module")
def database(database: str) -> str:
    fill(database)
    return database


def all_pages(browser: FlaskClient, path: str) -> list[str]:
    """The pages of a list from its newest row on, by its links."""
    pages = [browser.get(path).text]
    while older := re.search(r'href="([^"]+)" rel="next"', pages[-1]):
        assert len(pages) < 20
        pages.append(browser.get(unescape(older[1])).text)
    return pages


def links(pages: list[str], kind: str) -> list[str]:
    """The ids of the rows, as their links have them."""
    main = (re.sub(r'<p class="note.*?</p>', "", page.partition("<h2>Dead")[0], flags=re.DOTALL) for page in pages)
    return [found for page in main for found in re.findall(rf'href="/console/{kind}/([^"]+)"', page)]


def test_pages_of_models_and_events_show_each_row_once(browser: FlaskClient, database: str) -> None:
    for kind, table in (("models", "models"), ("events", "webhook_events")):
        pages = all_pages(browser, f"/console/{kind}")
        shown = links(pages, kind)
        assert len(pages) == 2
        wanted = [quote(row["id"], safe="") for row in rows(database, f"select id from headshotpro.{table}")]
        # Events link to their models, too.
        assert sorted(one for one in shown if one in wanted) == sorted(wanted)


@pytest.mark.parametrize("words", [MODEL, ATTACKS[0].upper()[:9], "0@exam"])
def test_one_box_finds_model_by_id_name_or_address(browser: FlaskClient, words: str) -> None:
    found = links(all_pages(browser, f"/console/models?q={quote(words)}"), "models")
    assert MODEL in found
    assert len(found) < 20


def test_model_with_any_id_has_its_page(browser: FlaskClient) -> None:
    for path, text in (
        (f"/console/models/{quote(HOSTILE_MODEL, safe='')}", "Timeline"),
        (f"/console/events/{quote(HOSTILE_EVENT, safe='')}", "could not be applied"),
    ):
        response = browser.get(path)
        assert (response.status_code, text in response.text) == (200, True)
    assert browser.get("/console/models/unknown").status_code == 404
    assert browser.get("/console/events/unknown").status_code == 404


def test_csv_has_the_whole_filter_and_no_formula(browser: FlaskClient, database: str) -> None:
    response = browser.get("/console/models.csv?status=failed")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(response.text.splitlines()))
    wanted = rows(
        database, "select id from headshotpro.models where status = 'failed' order by created_at desc, id desc"
    )
    assert [line["id"] for line in lines] == [row["id"] for row in wanted]


def test_csv_of_more_rows_than_a_statement_reads_has_each_once(
    browser: FlaskClient, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.web.console.models.CSV_ROWS", 7)
    lines = browser.get("/console/models.csv").text.splitlines()
    (count,) = rows(database, "select count(*) as n from headshotpro.models")
    assert len(set(lines)) == len(lines) == 1 + count["n"]


def test_hidden_names_are_on_no_page_and_cannot_be_searched(tmp_path: Path, database: str, redis_url: str) -> None:
    browser = console(tmp_path, database, redis_url, CONSOLE_SHOW_NAMES="0")
    log_in(browser)
    titles = ("<td>&#34;&gt;&lt;img", "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>")
    names = ("example.com", "ann@", "uid0", *titles)
    for path in ("/console/models", "/console/models.csv", f"/console/models/{MODEL}?at=2020-01-01"):
        text = browser.get(path).text
        assert [name for name in names if name in text] == []
    assert "ann@" not in browser.get(f"/console/events/{EVENT}").text
    assert links([browser.get("/console/models?q=0%40exam").text], "models") == []
    assert browser.get("/console/events?q=ann").status_code == 400


def test_body_is_searched_for_a_day_unless_a_time_is_given(browser: FlaskClient) -> None:
    page = browser.get("/console/events?q=NOTE").text
    assert "Bodies of 24 hours were searched" in page
    assert EVENT in links([page], "events")
    assert links([browser.get("/console/events?q=nowhere+to+be+found").text], "events") == []
    timed = browser.get("/console/events?q=note&since=2020-01-01T00:00").text
    assert "Bodies of 24 hours" not in timed


def test_dead_events_are_grouped_by_reason(browser: FlaskClient) -> None:
    page = browser.get("/console/events").text
    link = re.search(r'href="(/console/events\?status=dead&amp;error=[^"]+)"', page)
    assert link
    assert len(links([browser.get(unescape(link[1])).text], "events")) == 1


def test_model_page_names_the_cause_of_each_field(browser: FlaskClient) -> None:
    page = browser.get(f"/console/models/{MODEL}").text
    status = page[page.index("<td><code>title</code>") :]
    assert f"/console/events/{EVENT}" in status[: status.index("</tr>")]
    before = browser.get(f"/console/models/{MODEL}?at=2020-01-01T00:00").text
    assert "the mirror did not know this model" in before


@pytest.mark.parametrize(
    "path",
    ["models?q=%00", "models?age=x", "models?before=x", "events?before=2020-01-01", "events?before=-",
     "events?since=then", "events?status=x",
     f"models/{MODEL}?change=99999999999999999999", f"models/{MODEL}?at=yesterday"],
)  # fmt: skip
def test_parameter_that_cannot_be_read_is_refused_with_words(browser: FlaskClient, path: str) -> None:
    response = browser.get(f"/console/{path}")
    assert response.status_code == 400
    assert 'role="alert"' in response.text


def test_pull_that_compared_no_row_does_not_call_them_right(browser: FlaskClient, database: str) -> None:
    (pull,) = rows(database, "select id, rows_compared from headshotpro.pulls where status = 'failed'")
    assert pull["rows_compared"] == 0
    page = browser.get(f"/console/pulls/{pull['id']}").text
    assert "It compared no row." in page
    assert "was right" not in page


def test_numbers_of_pulls_are_in_columns_of_numbers(browser: FlaskClient) -> None:
    page = browser.get("/console/pulls").text
    assert '<th scope="col" class="number">Models read</th>' in page
    assert '<td class="number">300</td>' in page
    assert "Pull hot ones now" in page


def test_texts_about_times_read_well_where_script_changes_them(browser: FlaskClient) -> None:
    page = browser.get(f"/console/models/{quote(HOSTILE_MODEL, safe='')}").text
    assert re.search(r"<strong>Failed\s+<time ", page)


def test_held_pull_lists_its_suspects_and_what_to_do(browser: FlaskClient, database: str) -> None:
    (held,) = rows(database, "select id from headshotpro.pulls where status = 'held'")
    page = browser.get(f"/console/pulls/{held['id']}").text
    assert f"headshot-mirror pulls release {held['id']}" in page
    suspects = page[page.index("<h2>Suspects") : page.index("<h2>Differences")]
    assert sorted(links([suspects], "models")) == sorted([MODEL, quote(HOSTILE_MODEL, safe="")])
    assert browser.get("/console/pulls/4711").status_code == 404
    assert browser.get(f"/console/pulls/{2**63}").status_code == 404


def test_set_aside_shows_what_is_open_unless_asked_for_more(browser: FlaskClient) -> None:
    open_ones, all_of_them = (browser.get(f"/console/set-aside{query}").text for query in ("", "?state="))
    assert "was a number" not in open_ones
    assert "was a number" in all_of_them


def test_accuracy_shows_figures_and_checks_of_a_verdict(browser: FlaskClient) -> None:
    page = browser.get("/console/accuracy").text
    assert "0.01 %" in page
    assert len(links([page], "models")) == 3
    lost = browser.get("/console/accuracy?verdict=lost").text
    assert links([lost], "models") == [MODEL]


def test_parameters_of_the_url_are_no_arguments_of_a_link(tmp_path: Path, database_url: str, redis_url: str) -> None:
    browser = console(tmp_path, database_url, redis_url)
    log_in(browser)
    for query in ("endpoint=a", "_method=POST", "_scheme=x&_external=1"):
        page = browser.get(f"/console/models?{query}")
        assert page.status_code == 200
        assert 'href="/console/models.csv?' in page.text
    assert browser.get("/console/events?q=x&until=0001-01-01").status_code == 400


def test_body_that_is_no_json_is_hidden_with_the_names() -> None:
    names = Names(shown=False)
    assert names.body('{"object": {"title": "Ann"') == HIDDEN
    assert names.body({"note": '{"title": "Ann"}', "event": "model.deleted"}) == {
        "note": HIDDEN,
        "event": "model.deleted",
    }

"""Reads of our API: the vendor's list and single GET from the mirror, with its parameters and errors, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import KEY, Api
from tests.support.mirror import LIST, SINGLE
from tests.support.webhook_endpoint import assert_refused

if TYPE_CHECKING:
    from tests.support.mirror import Mirror

ABSENT = "ffffffffffffffffffffffff"


@pytest.fixture
def api(mirrored: Mirror) -> Api:
    return Api.of(mirrored)


def theirs(mirror: Mirror, path: str) -> Any:
    return mirror.vendor.api("GET", f"/organization/models{path}").document


PAGES = (
    "", "?limit=7", "?limit=7&offset=7", "?limit=200&offset=39", "?limit=1000", "?offset=999999999", "?limit=0007",
    "?status=active&limit=5", "?status=nosuch", "?status=", "?teamId=nosuch", "?unknown=1", "?status=a%00b",
)  # fmt: skip


def test_a_page_is_the_vendors_field_by_field(mirrored: Mirror, api: Api) -> None:
    for query in PAGES:
        assert api.get(query) == theirs(mirrored, query), query


def test_a_team_and_a_status_filter_together(mirrored: Mirror, api: Api) -> None:
    team = next(model["teamId"] for model in theirs(mirrored, "?limit=200")["models"] if model["teamId"])
    for query in (f"?teamId={team}", f"?teamId={team}&status=active&limit=3&offset=1"):
        assert api.get(query) == theirs(mirrored, query)


def test_pages_of_any_size_show_each_model_once_newest_first(mirrored: Mirror, api: Api) -> None:
    whole = [model["id"] for model in theirs(mirrored, "?limit=200")["models"]]
    for limit in (1, 7, 40):
        seen: list[str] = []
        more = True
        while more:
            document = api.get(f"?limit={limit}&offset={len(seen)}")
            seen += [model["id"] for model in document["models"]]
            more = document["pagination"]["hasMore"]
        assert seen == whole
    # Models of one moment keep their order too.
    mirrored.sql("update headshotpro.models set created_at = '2024-01-01'")
    whole = api.ids("?limit=200")
    assert whole == [api.ids(f"?limit=1&offset={place}")[0] for place in range(len(whole))]


def test_reads_spend_no_request_of_the_vendors(mirrored: Mirror, api: Api) -> None:
    mirrored.forget_requests()
    api.get("?limit=200")
    api.get(f"/{api.ids('?limit=1')[0]}")
    assert not mirrored.request_counts(LIST)
    assert not mirrored.request_counts(SINGLE)


def test_tombstones_are_shown_to_those_who_ask(mirrored: Mirror, api: Api) -> None:
    gone, *_ = api.ids("?limit=1")
    total = api.get()["pagination"]["total"]
    mirrored.sql("update headshotpro.models set status = 'deleted', deleted_at = now() where id = %s", gone)
    mirrored.sql("insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at) "
                 "values (%s, '{}', 'pull', now(), now())", gone)  # fmt: skip
    assert gone not in api.ids("?limit=200")
    assert api.get()["pagination"]["total"] == total - 1
    assert api.ids("?status=deleted") == [gone]
    assert gone in api.ids("?includeDeleted=true&limit=200")
    assert api.get("?includeDeleted=1")["pagination"]["total"] == total
    assert_refused(api.call("GET", f"/{gone}"), 404, "NOT_FOUND")


def test_one_model_equals_upstream_but_for_fields_not_mirrored(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?status=active&limit=1")[0]
    before = api.get(f"/{one}")["model"]
    expected = theirs(mirrored, f"/{one}")["model"]
    assert expected.items() - before.items() == {
        (name, expected[name]) for name in ("signedUrl", "photoCount", "favoritePhotoId")
    }
    # Once they were read they are shown, and only the login link is missing.
    assert api.get(f"/{one}?fresh=true")["model"] == expected
    assert api.get(f"/{one}")["model"] == {name: value for name, value in expected.items() if name != "signedUrl"}


def test_a_profile_that_no_source_has_told_is_left_out(mirrored: Mirror, api: Api) -> None:
    mirrored.enable_webhooks()
    (made,) = mirrored.create(events=True)
    mirrored.apply_webhooks()
    row = next(model for model in api.get("?limit=200")["models"] if model["id"] == made["id"])
    assert row.keys() == {"id", "uid", "title", "status", "isDevelopment", "createdAt", "finishedAt"}


def test_an_unknown_model_is_the_vendors_404(mirrored: Mirror, api: Api) -> None:
    for path in (f"/{ABSENT}", "/%00", "/a%2Fb", "/.."):
        assert_refused(api.call("GET", path), 404, "NOT_FOUND")
    assert api.call("GET", f"/{ABSENT}").json == theirs(mirrored, f"/{ABSENT}")


REFUSED = (
    "limit=0", "limit=-1", "limit=abc", "limit=", "limit=1.0", "limit=1e2", "limit=%D9%A3", "limit=99999999999",
    "offset=-1", "offset=x", "offset=99999999999",
)  # fmt: skip
REFUSED_BY_US = (
    "isDevelopment=maybe", "includeDeleted=2", "includeDeleted=", "createdAfter=yesterday", "createdAfter=1700000000",
    "createdBefore=2024-13-01T00:00:00Z", "updatedSince=-1", "updatedSince=soon", "updatedSince=", "updatedSince=0.5",
    "updatedSince=99999999999999999999",
)  # fmt: skip


def test_what_the_vendor_refuses_is_refused(mirrored: Mirror, api: Api) -> None:
    for query in REFUSED:
        assert mirrored.vendor.api("GET", f"/organization/models?{query}").status == 400, query
    for query in (*REFUSED, *REFUSED_BY_US):
        response = api.call("GET", f"?{query}")
        assert_refused(response, 400, "INVALID_REQUEST")
        assert " is needed" in response.json["error"], query


def test_our_filters(mirrored: Mirror, api: Api) -> None:
    models = api.get("?limit=200")["models"]
    some = models[10]
    assert api.ids(f"?email={some['email']}") == [some["id"]]
    assert api.ids(f"?email={some['email'].upper()}") == [some["id"]]
    after = [model["id"] for model in models if model["createdAt"] >= some["createdAt"]]
    before = [model["id"] for model in models if model["createdAt"] < some["createdAt"]]
    assert api.ids(f"?limit=200&createdAfter={some['createdAt']}") == after
    assert api.ids(f"?limit=200&createdBefore={some['createdAt'].replace('Z', '+00:00')}") == before
    assert len(api.ids("?limit=200&isDevelopment=false")) + len(api.ids("?limit=200&isDevelopment=true")) == len(models)
    for far in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
        api.get(f"?createdAfter={far}&createdBefore={far}&updatedSince={far}")


def test_an_etag_holds_until_something_changes(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    for path in ("?limit=5", f"/{one}", "?updatedSince=0"):
        tag = api.call("GET", path).headers["ETag"]
        # A proxy that compresses a page makes its tag weak.
        for kept in (tag, f"W/{tag}"):
            unchanged = api.call("GET", path, If_None_Match=kept)
            assert (unchanged.status_code, unchanged.data) == (304, b"")
        assert api.call("GET", path, If_None_Match='"other"').status_code == 200
    tags = {path: api.call("GET", path).headers["ETag"] for path in ("?limit=5", f"/{one}")}
    mirrored.change(one, title="Somebody else")
    mirrored.advance_vendor_clock()
    mirrored.pull()
    for path, tag in tags.items():
        assert api.call("GET", path, If_None_Match=tag).status_code == 200


def test_the_total_follows_every_change(mirrored: Mirror, api: Api) -> None:
    total = api.get("?limit=1")["pagination"]["total"]
    mirrored.create(3)
    mirrored.advance_vendor_clock()
    mirrored.pull()
    assert api.get("?limit=1")["pagination"]["total"] == total + 3


def test_age_tells_how_long_ago_a_model_was_observed(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    columns = ("core_at", "invitation_at", "profile_at", "detail_at", "alive_at")
    sets = ", ".join(f"{name} = now() - interval '1 hour'" for name in columns)
    mirrored.sql(f"update headshotpro.model_clocks set {sets} where model_id = %s", one)
    assert 3590 <= int(api.call("GET", f"/{one}").headers["Age"]) <= 3700
    # A page is as old as the oldest observation on it.
    assert 3590 <= int(api.call("GET", "?limit=3").headers["Age"]) <= 3700
    assert int(api.call("GET", "?limit=3&offset=1").headers["Age"]) < 600


def test_list_states_the_accuracy_of_28_days_once_it_is_known(mirrored: Mirror, api: Api) -> None:
    assert "X-Mirror-Accuracy" not in api.call("GET", "?limit=1").headers
    mirrored.sql(
        "insert into headshotpro.accuracy_figures (period, fields, compared, wrong, rate, upper_95, slo_target, "
        "late_webhooks, lost_webhooks, unexplained, last_check_at, computed_at) "
        "select period, 'list', 9, 1, 0.0000119, 0.00012341, 0.0001, 0, 0, 0, '2026-11-29 10:48:00+01', now() "
        "from unnest(array['1h', '28d']) as period"
    )
    assert api.call("GET", "?limit=1").headers["X-Mirror-Accuracy"] == (
        "rate=0.000012; upper95=0.000124; period=28d; at=2026-11-29T09:48:00Z"
    )
    assert "X-Mirror-Accuracy" not in api.call("GET", "?updatedSince=0").headers
    mirrored.sql("update headshotpro.accuracy_figures set computed_at = now() - interval '301 s'")
    assert "X-Mirror-Accuracy" not in api.call("GET", "?limit=1").headers


def test_times_have_the_vendors_form(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    mirrored.sql("update headshotpro.models set created_at = '2024-01-15 11:30:00.0009+01', finished_at = '9999-12-31'"
                 " where id = %s", one)  # fmt: skip
    model = api.get(f"/{one}")["model"]
    assert (model["createdAt"], model["finishedAt"]) == ("2024-01-15T10:30:00.000Z", "9999-12-31T00:00:00.000Z")


def test_only_the_documented_methods(api: Api) -> None:
    for method, path in (("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("OPTIONS", ""), ("POST", "/x"), ("PUT", "/x")):
        assert_refused(api.call(method, path), 405, "METHOD_NOT_ALLOWED")
    assert api.call("HEAD", "", key=KEY).status_code == 200

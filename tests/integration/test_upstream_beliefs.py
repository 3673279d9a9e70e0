"""A response of the upstream is checked before it is believed: its organization and object, and its success."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from service.api.writes import UpstreamWriter
from service.errors import (
    KeyRejected,
    ModelNotFound,
    Throttled,
    UpstreamError,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRejected,
)
from service.mirror.refetch import refetch
from service.runtime import Runtime
from service.storage import merged, refetches
from service.storage.database import transaction
from service.upstream.budget import Priority
from tests.support.acting import TESTER
from tests.support.api import Api
from tests.support.odd_vendor import MODEL, OddVendor, client_of, get, http, odd_vendor, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.upstream.client import UpstreamClient
    from tests.support.mirror import Mirror

REFETCH = Priority.REFETCH
PAGE_SIZE = {"success": True, "models": [], "pagination": {"total": 0, "limit": 200, "offset": 0, "hasMore": False}}
CREATED = {"success": True, "modelId": "m1", "status": "onboarding"}
DELETED = {"success": True, "modelId": "m1", "message": "Model deleted successfully"}
ORGANIZATION = {"success": True, "organization": {"uid": "org", "name": "Org", "teams": []}}

CALLS: list[tuple[Callable[[UpstreamClient], Any], dict[str, Any]]] = [
    (lambda client: client.list_models(priority=REFETCH), PAGE_SIZE),
    (lambda client: client.get_model("m1", priority=REFETCH), MODEL),
    (lambda client: client.create_model("ann@example.com", priority=REFETCH), CREATED),
    (lambda client: client.delete_model("m1", priority=REFETCH), DELETED),
    (lambda client: client.organization(priority=REFETCH), ORGANIZATION),
]
NAMES = ["list", "get", "create", "delete", "organization"]


@pytest.fixture
def vendor() -> Iterator[OddVendor]:
    with odd_vendor(http(200, MODEL)) as running:
        yield running


# --- `success`


@pytest.mark.parametrize(("call", "document"), CALLS, ids=NAMES)
def test_a_200_without_success_is_an_error(
    vendor: OddVendor, call: Callable[[UpstreamClient], Any], document: dict[str, Any]
) -> None:
    for success in (False, None, "false", 0, 1, "true"):
        vendor.script(http(200, {**document, "success": success, "error": "Database is asleep"}))
        with pytest.raises(UpstreamFailed, match="Database is asleep"):
            call(client_of(vendor))


@pytest.mark.parametrize(("call", "document"), CALLS, ids=NAMES)
def test_a_success_that_is_not_said_is_believed_for_its_shape(
    vendor: OddVendor, call: Callable[[UpstreamClient], Any], document: dict[str, Any]
) -> None:
    vendor.script(http(200, {name: value for name, value in document.items() if name != "success"}))
    call(client_of(vendor))


@pytest.mark.parametrize(("call", "_document"), CALLS, ids=NAMES)
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("INVALID_REQUEST", UpstreamRejected),
        ("UNAUTHORIZED", KeyRejected),
        ("FORBIDDEN", KeyRejected),
        ("INSUFFICIENT_CREDITS", UpstreamRejected),
        ("NOT_FOUND", UpstreamRejected),
    ],
)
def test_an_error_in_a_200_is_the_one_that_its_code_names(
    vendor: OddVendor, call: Callable[[UpstreamClient], Any], _document: object, code: str, error: type[Exception]
) -> None:
    vendor.script(http(200, {"success": False, "error": "The words.", "code": code}))
    with pytest.raises(error, match="The words") as raised:
        call(client_of(vendor))
    # NOT_FOUND without a 404 is no evidence of a deletion.
    assert type(raised.value) is error
    assert raised.value.code == code
    assert len(vendor.requests) == 1


def test_a_rate_limit_in_a_200_is_waited_for(vendor: OddVendor) -> None:
    vendor.script(http(200, {"success": False, "code": "RATE_LIMIT_EXCEEDED"}, Retry_After="60"))
    with pytest.raises(Throttled):
        get(client_of(vendor), max_wait=1.0)


def test_an_error_in_a_200_of_a_create_is_not_tried_again(vendor: OddVendor) -> None:
    vendor.script(http(200, {"success": False, "error": "Oops"}), http(200, CREATED))
    with pytest.raises(UpstreamFailed):
        client_of(vendor).create_model("ann@example.com", priority=REFETCH)
    assert len(vendor.requests) == 1


def test_an_error_beside_a_broken_byte_is_still_one(vendor: OddVendor) -> None:
    vendor.script(http(200, b'{"success": false, "modelId": "m1", "error": "\xff broken"}'))
    with pytest.raises(UpstreamFailed, match="broken"):
        client_of(vendor).delete_model("m1", priority=REFETCH)


# --- whose object


@pytest.mark.parametrize("model_id", ["m2", "M1", "m1 ", "", None, 7], ids=str)
def test_an_object_of_another_model_is_refused(vendor: OddVendor, model_id: object) -> None:
    vendor.script(http(200, {"success": True, "model": {"id": model_id, "status": "active"}}))
    with pytest.raises(UpstreamMalformed):
        get(client_of(vendor))
    if model_id is not None:
        vendor.script(http(200, {"success": True, "modelId": model_id}))
        with pytest.raises(UpstreamMalformed):
            client_of(vendor).delete_model("m1", priority=REFETCH)


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"modelId": None},
        {"modelId": ""},
        {"modelId": " "},
        {"modelId": "a\nb"},
        {"modelId": 7},
        {"modelId": "x" * 256},
        {"modelId": ".."},
    ],
    ids=["missing", "null", "empty", "blank", "line break", "number", "long", "dots"],
)
def test_a_create_without_a_usable_id_is_an_error(vendor: OddVendor, made: dict[str, Any]) -> None:
    vendor.script(http(200, {"success": True, "status": "onboarding", **made}))
    with pytest.raises(UpstreamMalformed):
        client_of(vendor).create_model("ann@example.com", priority=REFETCH)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [http(204, Content_Length=None), http(200), http(200, b"\n"), http(200, {"success": True, "message": "Deleted"})],
    ids=["204", "empty 200", "blank 200", "no id"],
)
def test_a_delete_that_succeeds_without_a_body_has_succeeded(vendor: OddVendor, answer: bytes) -> None:
    vendor.script(answer)
    assert client_of(vendor).delete_model("m1", priority=REFETCH).body.model_id == "m1"
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("answer", [http(202), http(200, {}), http(200, b"<html>")], ids=["202", "{}", "html"])
def test_a_delete_that_is_not_said_to_be_done_is_not_done(vendor: OddVendor, answer: bytes) -> None:
    vendor.script(answer)
    with pytest.raises(UpstreamMalformed):
        client_of(vendor).delete_model("m1", priority=REFETCH)


@pytest.mark.parametrize("status", [408, 425, 500, 503])
def test_a_status_that_may_pass_is_tried_again(vendor: OddVendor, status: int) -> None:
    vendor.script(http(status), http(status), http(200, MODEL))
    assert get(client_of(vendor)).body.status == "active"
    assert len(vendor.requests) == 3
    vendor.script(http(status), http(200, DELETED))
    client_of(vendor).delete_model("m1", priority=REFETCH)


# --- in the mirror


@pytest.mark.parametrize(
    "answer",
    [
        http(200, {"success": False, "error": "Database is asleep"}),
        http(200, {"success": True, "modelId": "another"}),
        http(404, b"<html>no such page</html>"),
        http(404, {"success": False, "error": "no route"}),
    ],
    ids=["no success", "another model", "gateway", "no code"],
)
def test_a_delete_that_failed_leaves_the_model_alive(mirrored: Mirror, answer: bytes) -> None:
    one = next(iter(mirrored.live_ids()))
    with odd_vendor(answer) as vendor:
        runtime = mirrored.runtime
        writer = UpstreamWriter(runtime.engine, client_of(vendor), runtime.queue, runtime.stale_models)
        with pytest.raises(UpstreamError):
            writer.delete(one, TESTER)
    assert mirrored.model(one)["status"] != "deleted"
    # Nobody knows what was done, so a GET is to find out.
    assert one in mirrored.refetch_requests()


def test_delete_with_a_204_is_a_tombstone_and_has_a_body(mirrored: Mirror) -> None:
    one = next(iter(mirrored.live_ids()))
    with odd_vendor(http(204, Content_Length=None)) as vendor:
        answer = Api.of(mirrored, headshotpro_api_url=vendor.url).call("DELETE", f"/{one}")
    assert answer.status_code == 200
    assert answer.json == {"success": True, "message": "Model deleted successfully", "modelId": one}
    assert mirrored.model(one)["status"] == "deleted"


def test_a_create_that_failed_with_a_200_leaves_no_row(mirrored: Mirror) -> None:
    before = mirrored.sql("select count(*) from headshotpro.models")
    refused = {"success": False, "error": "Not enough credits", "code": "INSUFFICIENT_CREDITS", "modelId": "ghost"}
    with odd_vendor(http(200, refused), http(200, {**refused, "code": "NEW"})) as vendor:
        api = Api.of(mirrored, headshotpro_api_url=vendor.url)
        body = {"email": "ada@example.com"}
        answer = api.call("POST", "", body)
        assert (answer.status_code, answer.json["code"]) == (402, "INSUFFICIENT_CREDITS")
        answer = api.call("POST", "", body)
        assert (answer.status_code, answer.json["error"]) == (502, "Not enough credits")
    assert mirrored.sql("select count(*) from headshotpro.models") == before


def test_another_models_object_is_not_merged_by_a_refetch(mirrored: Mirror) -> None:
    one, other = sorted(mirrored.live_ids())[:2]
    shown = {"id": other, "status": "active", "title": "Somebody Else", "email": "else@example.com"}
    now = datetime.now(UTC)
    with transaction(mirrored.runtime.engine) as connection:
        merged.add_requests(connection, [refetches.RefetchRequest(one, now, "dispute", now)])
    with odd_vendor(http(200, {"success": True, "model": shown})) as vendor:
        assert refetch(mirrored.runtime.engine, client_of(vendor), 0.5) == 0
    assert mirrored.model(one)["title"] != "Somebody Else"
    assert mirrored.model(one)["email"] != "else@example.com"
    assert one in mirrored.refetch_requests()


def test_an_empty_list_without_success_tombstones_nothing(mirrored: Mirror) -> None:
    organization = mirrored.vendor.api("GET", "/organization").document
    before = mirrored.live_ids()
    refused = {**PAGE_SIZE, "success": False, "error": "Database is asleep"}
    with odd_vendor(http(200, organization), http(200, refused)) as vendor:
        mirrored.slice(runtime=of_vendor(mirrored, vendor), seconds=1.0)
    assert {row["id"] for row in mirrored.sql("select id from headshotpro.live_models")} == before
    assert mirrored.sql("select status from headshotpro.pulls order by id desc limit 1")[0]["status"] != "complete"


def of_vendor(mirrored: Mirror, vendor: OddVendor) -> Runtime:
    """Another process of the deployment, whose upstream is this one."""
    return Runtime.build(structs.replace(mirrored.settings, headshotpro_api_url=vendor.url))


def test_a_models_own_404_needs_the_vendors_code(vendor: OddVendor) -> None:
    vendor.script(refusal(404, "NOT_FOUND"))
    with pytest.raises(ModelNotFound):
        get(client_of(vendor))

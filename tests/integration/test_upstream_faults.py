"""The client against answers that the sandbox cannot give: garbage, hung servers, foreign errors."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from service import log
from service.config import Settings
from service.errors import (
    KeyRejected,
    ModelNotFound,
    UpstreamError,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from service.upstream.budget import Priority
from service.upstream.client import UpstreamClient
from service.upstream.sending import RequestObservers
from tests.support.odd_vendor import KEY, MODEL, OddVendor, RecordedPauses, client_of, get, http, odd_vendor, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

REFETCH = Priority.REFETCH
CREATED = {"success": True, "modelId": "m1", "status": "onboarding", "signedUrl": "https://x.example/?token=SECRET"}
CUT = http(200, b'{"success": true', Content_Length="500")


@pytest.fixture
def vendor() -> Iterator[OddVendor]:
    with odd_vendor(http(200, MODEL)) as running:
        yield running


# --- faults


def test_5xx_and_broken_responses_are_tried_again(vendor: OddVendor) -> None:
    vendor.script(http(502, b"<html>Bad gateway</html>"), CUT, http(200, b"<html>"), http(200, MODEL))
    pauses = RecordedPauses()
    assert get(client_of(vendor, pauses)).body.status == "active"
    for pause, longest in zip(pauses, (0.5, 1.0, 2.0), strict=True):
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(503), UpstreamFailed),
        (CUT, UpstreamUnreachable),
        (http(200, b"4\r\n{   \r\n", Content_Length=None, Transfer_Encoding="chunked"), UpstreamUnreachable),
        (http(200, b"no gzip at all, however long", Content_Encoding="gzip"), UpstreamUnreachable),
        (b"", UpstreamUnreachable),
        (b"SSH-2.0-OpenSSH_9.2\r\n", UpstreamUnreachable),
        (http(200, b"<html>"), UpstreamMalformed),
        (http(204), UpstreamMalformed),
        (http(200, b"\xff\xfe"), UpstreamMalformed),
        (http(200, b'{"odd":' + b"[" * 100_000), UpstreamMalformed),
    ],
    # An answer holds the time of day, and a test's name must not.
    ids=["503", "cut", "cut chunk", "bad gzip", "nothing", "not http", "html", "empty", "not utf-8", "too deep"],
)
def test_a_fault_that_stays_is_our_error_after_four_tries(
    vendor: OddVendor, answer: bytes, error: type[UpstreamError]
) -> None:
    vendor.script(answer)
    with pytest.raises(error) as raised:
        get(client_of(vendor))
    assert type(raised.value) is error
    assert len(vendor.requests) == 4


@pytest.mark.parametrize("document", [{"success": True}, [], {"model": {"id": 7}}])
def test_json_of_another_shape_is_garbled_at_once(vendor: OddVendor, document: Any) -> None:
    vendor.script(http(200, document))
    with pytest.raises(UpstreamMalformed):
        get(client_of(vendor))
    assert len(vendor.requests) == 1


def test_response_that_never_ends_is_given_up(vendor: OddVendor) -> None:
    vendor.script(vendor.drip)
    with pytest.raises(UpstreamTimeout):
        get(client_of(vendor, response_timeout=0.5), max_wait=0.0)


def test_response_that_never_comes_is_given_up(vendor: OddVendor) -> None:
    vendor.script(vendor.hang)
    with pytest.raises(UpstreamTimeout):
        get(client_of(vendor, response_timeout=0.5))
    assert len(vendor.requests) == 4


def test_response_without_a_bound_is_given_up(vendor: OddVendor) -> None:
    vendor.script(http(200, b" " * (17 * 1024 * 1024)))
    with pytest.raises(UpstreamMalformed, match="larger"):
        get(client_of(vendor), max_wait=0.0)


def test_a_vendor_that_is_not_there_is_unreachable() -> None:
    with odd_vendor(b"") as gone:
        pass
    pauses = RecordedPauses()
    with pytest.raises(UpstreamUnreachable) as raised:
        client_of(gone, pauses).create_model("ann@example.com", priority=REFETCH)
    assert not isinstance(raised.value, UpstreamTimeout)
    # Nobody heard it, so even a create was tried again.
    assert len(pauses) == 3


def test_deadline_ends_the_tries(vendor: OddVendor) -> None:
    vendor.script(http(500))
    with pytest.raises(UpstreamFailed):
        get(client_of(vendor, time.sleep), max_wait=0.1)
    assert len(vendor.requests) == 1


def test_an_address_that_is_none_is_our_error() -> None:
    for url in ("http://", "http://a b/api", "http://[::1/api", f"http://{'x' * 64}.example/api"):
        client = UpstreamClient(url, KEY, None, pause=RecordedPauses())
        with pytest.raises(UpstreamError):
            get(client)


def test_a_title_with_half_an_emoji_spoils_no_page(vendor: OddVendor) -> None:
    page = {
        "models": [{"id": "m1", "title": "Ann \ud83d"}, {"id": "m2", "title": "B\0b"}],
        "pagination": {"total": 2, "limit": 50, "offset": 0, "hasMore": False},
    }
    vendor.script(http(200, page))
    models = client_of(vendor).list_models(priority=REFETCH).body.models
    assert [model.title for model in models] == ["Ann \ufffd", "B\ufffdb"]


def test_invalid_json_in_a_page_sets_only_its_record_aside(vendor: OddVendor) -> None:
    page = b'{"models": [{"id": "m1", "x": NaN}, {"id": "m2", "x": undefined}, {"id": "m3"}], "pagination": %s}'
    pagination = b'{"total": 3, "limit": 50, "offset": 0, "hasMore": false}'
    vendor.script(http(200, page % pagination))
    answer = client_of(vendor).list_models(priority=REFETCH)
    assert [model.id for model in answer.body.models] == ["m1", "m3"]
    assert [(record.model_id, record.place) for record in answer.set_aside] == [(None, 1)]
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nno header line\r\n",
        b"HTTP/1.1 200 OK\r\nDate: \xff\r\nRetry-After: \xff\r\nX-RateLimit-Reset: \xff\r\nAge: \xff\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n",
        b"HTTP/1.1 200 OK\r\nAge: 99999999999999\r\nDate: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
    ],
    ids=["no header", "bytes", "length of letters", "negative length", "far times"],
)
def test_odd_headers_spoil_no_response_and_print_no_traceback(
    vendor: OddVendor, head: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(Settings())
    vendor.script(head + b"\r\n" + json.dumps(MODEL).encode())
    assert get(client_of(vendor)).body.id == "m1"
    assert capsys.readouterr().err == ""


# --- calls that change something


@pytest.mark.parametrize(
    "fault", [http(500), http(503), CUT, http(201, b"<html>"), b""], ids=["500", "503", "cut", "html", "nothing"]
)
def test_a_create_that_may_have_happened_is_not_sent_twice(vendor: OddVendor, fault: bytes) -> None:
    vendor.script(fault, http(200, CREATED))
    with pytest.raises(UpstreamError):
        client_of(vendor).create_model("ann@example.com", priority=REFETCH)
    assert len(vendor.requests) == 1


def test_create_without_response_times_out_and_is_not_retried(vendor: OddVendor) -> None:
    vendor.script(vendor.hang)
    with pytest.raises(UpstreamTimeout):
        client_of(vendor, response_timeout=0.5).create_model("ann@example.com", priority=REFETCH)
    assert len(vendor.requests) == 1


def test_a_429_is_no_fault_so_a_create_goes_on_after_it(vendor: OddVendor) -> None:
    vendor.script(*[refusal(429, Retry_After="1")] * 6, http(200, CREATED))
    answer = client_of(vendor).create_model("ann@example.com", priority=REFETCH)
    assert answer.body.model_id == "m1"
    assert len(vendor.requests) == 7


def test_a_create_sends_only_what_is_given(vendor: OddVendor) -> None:
    vendor.script(http(200, CREATED))
    client = client_of(vendor)
    client.create_model("ann@example.com", priority=REFETCH)
    client.create_model("bob@example.com", "t1", is_development=False, priority=REFETCH)
    bodies = [json.loads(request.partition("\r\n\r\n")[2]) for request in vendor.requests]
    assert bodies == [
        {"email": "ann@example.com"},
        {"email": "bob@example.com", "teamId": "t1", "isDevelopment": False},
    ]
    assert all("content-type: application/json" in request.lower() for request in vendor.requests)


def test_a_delete_that_finds_what_its_first_try_did_is_done(vendor: OddVendor) -> None:
    vendor.script(CUT, refusal(400, "ALREADY_DELETED"))
    assert client_of(vendor).delete_model("m1", priority=REFETCH).body.model_id == "m1"


def test_a_delete_of_what_was_deleted_before_is_rejected(vendor: OddVendor) -> None:
    # A 429 is no try: nothing was done then.
    vendor.script(refusal(429, Retry_After="1"), refusal(400, "ALREADY_DELETED"))
    with pytest.raises(UpstreamRejected) as raised:
        client_of(vendor).delete_model("m1", priority=REFETCH)
    assert (raised.value.status, raised.value.code) == (400, "ALREADY_DELETED")


def test_a_404_after_a_lost_delete_proves_nothing(vendor: OddVendor) -> None:
    vendor.script(http(500), refusal(404, "NOT_FOUND"))
    with pytest.raises(ModelNotFound):
        client_of(vendor).delete_model("m1", priority=REFETCH)


# --- refusals


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, UpstreamRejected), (401, KeyRejected), (402, UpstreamRejected), (403, KeyRejected), (404, ModelNotFound)],
)
def test_a_4xx_is_not_tried_again(vendor: OddVendor, status: int, error: type[UpstreamRejected]) -> None:
    code = "NOT_FOUND" if status == 404 else "THE_CODE"
    vendor.script(refusal(status, code, "The words."))
    with pytest.raises(error, match="The words") as raised:
        get(client_of(vendor))
    assert type(raised.value) is error
    assert (raised.value.status, raised.value.code) == (status, code)
    assert len(vendor.requests) == 1


def test_a_foreign_404_does_not_say_that_a_model_is_gone(vendor: OddVendor) -> None:
    # A proxy's, a gateway's, or another site's behind a wrong base URL.
    for body in (b"<html>404</html>", b"", b"[]", b"{}", {"success": False, "error": "no route"}, {"code": "E404"}):
        vendor.script(http(404, body))
        for call in (client_of(vendor).get_model, client_of(vendor).delete_model):
            with pytest.raises(UpstreamMalformed, match="HEADSHOTPRO_API_URL"):
                call("m1", priority=REFETCH)
        with pytest.raises(UpstreamError):
            client_of(vendor).list_models(priority=REFETCH)


def test_a_404_of_the_list_is_about_no_model(vendor: OddVendor) -> None:
    vendor.script(refusal(404, "NOT_FOUND", "Team not found"))
    with pytest.raises(UpstreamRejected) as raised:
        client_of(vendor).create_model("ann@example.com", "t9", priority=REFETCH)
    assert type(raised.value) is UpstreamRejected


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "INVALID_EMAIL", "Not good: ann@example.com, see https://x.example/?token=SECRET"),
        refusal(500, "ann@example.com", "SECRET@x"),
        http(200, {"modelId": 7, "signedUrl": "https://x.example/?token=SECRET"}),
    ],
    ids=["400", "500", "200"],
)
def test_no_message_repeats_what_is_private(vendor: OddVendor, answer: bytes) -> None:
    vendor.script(answer)
    with pytest.raises(UpstreamError) as raised:
        client_of(vendor).create_model("ann@example.com", priority=REFETCH)
    for private in ("ann@", "SECRET", KEY):
        assert private not in str(raised.value)


def test_a_redirect_is_not_followed_with_the_key(vendor: OddVendor) -> None:
    with odd_vendor(http(200, MODEL)) as other:
        vendor.script(http(302, Location=f"{other.url}/organization/models/m1"))
        with pytest.raises(UpstreamMalformed, match="HEADSHOTPRO_API_URL"):
            get(client_of(vendor))
        assert len(vendor.requests) == 1
        assert other.requests == []


# --- what is sent


def test_an_id_stays_one_part_of_the_path(vendor: OddVendor) -> None:
    vendor.script(refusal(404, "NOT_FOUND"))
    with pytest.raises(ModelNotFound):
        client_of(vendor).get_model("a/../b?c=d#e %2F", priority=REFETCH)
    assert vendor.requests[0].startswith("GET /api/v2/organization/models/a%2F..%2Fb%3Fc%3Dd%23e%20%252F HTTP")


def test_an_id_that_would_be_another_path_is_not_sent(vendor: OddVendor) -> None:
    for model_id in ("", ".", ".."):
        with pytest.raises(UpstreamRejected):
            client_of(vendor).delete_model(model_id, priority=REFETCH)
    assert vendor.requests == []


def test_the_key_goes_into_the_header_alone(vendor: OddVendor) -> None:
    get(client_of(vendor))
    head = vendor.requests[0]
    assert f"authorization: bearer {KEY}".lower() in head.lower()
    assert head.count(KEY) == 1


def test_each_try_is_observed(vendor: OddVendor) -> None:
    seen: list[tuple[str, int | str]] = []
    vendor.script(http(500), CUT, http(200, MODEL))
    get(client_of(vendor, observers=RequestObservers(lambda route, status, seconds: seen.append((route, status)))))
    route = "GET /organization/models/:modelId"
    assert seen == [(route, 500), (route, "unreachable"), (route, 200)]

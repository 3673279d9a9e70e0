"""Requests to subscribers: bodies, signatures by the public vectors, and addresses to which nothing may be sent."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.subscriptions import addresses, message
from service.subscriptions.addresses import AddressRefused, refusal, refusal_of_literal, url_problem
from service.subscriptions.signing import new_secret, signed_headers

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def change(**fields: Any) -> dict[str, Any]:
    """A change that the feed has, with its row."""
    row = {
        "id": "m1",
        "email": "ada@example.com",
        "title": "Ada",
        "status": "active",
        "team_id": "t1",
        "created_at": T0,
    }
    given = {
        "id": 7,
        "model_id": "m1",
        "from_status": "pending",
        "to_status": "active",
        "changed": {"status": ["pending", "active"], "title": ["A", "Ada"]},
        "source": "webhook",
        "observed_at": T0,
        "recorded_at": T0.replace(minute=5),
        "row": row,
    }
    return given | fields


# --- bodies


def test_body_has_type_time_change_and_row() -> None:
    document = json.loads(message.body([change()], batch=False, personal=True))
    assert document["type"] == "model.changed"
    assert document["timestamp"] == "2026-01-02T03:05:05+00:00"
    data = document["data"]
    assert data.keys() == {
        "id", "model_id", "from_status", "to_status", "changed", "source", "observed_at", "row",
    }  # fmt: skip
    assert (data["id"], data["observed_at"]) == (7, "2026-01-02T03:04:05+00:00")
    assert data["changed"] == {"status": ["pending", "active"], "title": ["A", "Ada"]}
    assert (data["row"]["email"], data["row"]["created_at"]) == ("ada@example.com", "2026-01-02T03:04:05+00:00")


def test_personal_fields_are_left_out_unless_wanted() -> None:
    body = message.body([change()], batch=False, personal=False)
    assert b"Ada" not in body
    assert b"ada@example.com" not in body
    data = json.loads(body)["data"]
    assert data["changed"] == {"status": ["pending", "active"]}
    assert data["row"].keys() == {"id", "status", "team_id", "created_at"}


def test_batch_is_a_list_also_where_it_is_one_change() -> None:
    document = json.loads(message.body([change()], batch=True, personal=False))
    assert document["type"] == "model.batch"
    assert [one["id"] for one in document["data"]["changes"]] == [7]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, "waiting", "model.created"),
        ("waiting", "active", "model.changed"),
        (None, None, "model.changed"),
        ("active", "deleted", "model.deleted"),
        (None, "deleted", "model.deleted"),
        ("deleted", "active", "model.changed"),
    ],
)
def test_type_follows_from_the_statuses(before: str | None, after: str | None, kind: str) -> None:
    assert message.change_type(change(from_status=before, to_status=after)) == kind


def admitted(statuses: list[str] | None = None, teams: list[str] | None = None, **fields: Any) -> bool:
    return message.admits({"statuses": statuses, "teams": teams}, change(**fields))


def test_filter_admits_by_new_status_and_by_team_of_the_row() -> None:
    assert admitted()
    assert admitted(["active", "failed"])
    assert not admitted(["failed"])
    assert not admitted(["active"], to_status=None)
    assert admitted(teams=["t1"])
    assert not admitted(["active"], ["t2"])


def test_message_id_is_new_only_after_a_replay() -> None:
    assert message.message_id(3, 0, 7) == message.message_id(3, 0, 7)
    assert len({message.message_id(3, 0, 7), message.message_id(3, 1, 7), message.message_id(4, 0, 7)}) == 3


# --- signatures: the vector of the specification's own libraries

VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIME = datetime.fromtimestamp(1614265330, UTC)
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_signature_equals_the_public_vector() -> None:
    assert signed_headers(VECTOR_ID, VECTOR_TIME, VECTOR_BODY, [VECTOR_SECRET]) == {
        "webhook-id": VECTOR_ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": VECTOR_SIGNATURE,
    }


def test_both_secrets_sign_in_the_order_given() -> None:
    headers = signed_headers(VECTOR_ID, VECTOR_TIME, VECTOR_BODY, [new_secret(), VECTOR_SECRET])
    first, second = headers["webhook-signature"].split(" ")
    assert (first.startswith("v1,"), second) == (True, VECTOR_SIGNATURE)


def test_receivers_with_either_secret_accept_and_others_refuse() -> None:
    old, new, body = new_secret(), new_secret(), b'{"title": "Zo\xc3\xab"}'
    headers = signed_headers("msg_1", datetime.now(UTC), body, [new, old])
    assert Webhook(old).verify(body, headers) == Webhook(new).verify(body, headers) == {"title": "Zoë"}
    for secret, sent in ((new_secret(), body), (new, body + b" ")):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(sent, headers)


def test_secrets_have_the_prefix_and_differ() -> None:
    assert new_secret().startswith("whsec_")
    assert new_secret() != new_secret()


# --- addresses

REFUSED = (
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "192.0.0.192",
    "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::a9fe:a9fe", "0.0.0.0", "::", "224.0.0.1",
    "ff02::1", "255.255.255.255", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "168.63.129.16",
    "64:ff9b:1::a9fe:a9fe", "::ffff:0:a9fe:a9fe",
)  # fmt: skip
ALLOWED = (
    "127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "93.184.216.34",
    "2606:2800:220:1::1", "::ffff:10.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_link_local_and_metadata_addresses_are_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_private_and_public_addresses_are_allowed(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize("host", ["169.254.43518", "0xA9FEA9FE", "2852039166", "0251.0376.0251.0376", "169.254.1.1."])
def test_odd_spellings_of_a_refused_address_are_refused(host: str) -> None:
    assert refusal_of_literal(host)


@pytest.mark.parametrize("host", ["example.com", "metadata.internal", "10.0.0.1", "localhost"])
def test_names_and_allowed_addresses_pass_as_literals(host: str) -> None:
    assert refusal_of_literal(host) is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "example.com", "http:///path", "http://u:p@example.com/", "http://example.com/#f",
        "http://exa mple.com/", "http://example.com:0/", "http://example.com:99999/", "http://[::1/", "http://zoë.de/",
        "http://169.254.169.254/latest", "http://[fe80::1]/", "http://0xA9FEA9FE/", "https://example.com/" + "x" * 2048,
        # HTTP clients and proxies decode the one, and end the host at the other: both are 169.254.169.254.
        "http://169%2e254.169.254/", "http://169.254.169.254\\/../latest", "http://exa%6dple.com/",
    ],
)  # fmt: skip
def test_urls_that_no_subscription_may_have(url: str) -> None:
    assert url_problem(url)


@pytest.mark.parametrize(
    "url", ["https://example.com/hooks?token=1", "http://10.0.0.1:8080/", "http://[::1]:80/x", "http://localhost/"]
)
def test_urls_that_a_subscription_may_have(url: str) -> None:
    assert url_problem(url) is None


def test_name_resolves_to_its_allowed_addresses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["169.254.169.254", "10.0.0.1", "10.0.0.1", "fe80::1"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [(0, 0, 0, "", (one, 80)) for one in found])
    assert addresses.resolve("example.com", 80) == ["10.0.0.1"]
    del found[1:3]
    with pytest.raises(AddressRefused, match="link-local"):
        addresses.resolve("example.com", 80)

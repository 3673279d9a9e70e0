"""Bearer keys: which entry of MIRROR_API_KEYS a request shows, and that none is shown where none is given."""

from __future__ import annotations

from typing import Any

import pytest

from service.config.api_keys import Scope, parse
from service.web.auth import ApiKeyAuth, network_of

NO_SERVER: Any = None
ENTRIES = ("full", "ro:look", "twice", "ro:twice", "schlüssel", "prometheus=metrics:scrape", "billing=YWJj==")
KEYS = ApiKeyAuth(parse(ENTRIES), NO_SERVER, NO_SERVER)


@pytest.mark.parametrize(
    ("header", "scope"),
    [
        ("Bearer full", Scope.WRITE),
        ("bearer full", Scope.WRITE),
        ("Bearer  full ", Scope.WRITE),
        ("Bearer look", Scope.READ),
        ("Bearer scrape", Scope.METRICS),
        # Of two entries with one key the wider counts.
        ("Bearer twice", Scope.WRITE),
        ("Bearer YWJj==", Scope.WRITE),
        ("Bearer schlüssel".encode().decode("latin-1"), Scope.WRITE),
        # Name and scope are no part of the key.
        ("Bearer ro:look", None),
        ("Bearer metrics:scrape", None),
        ("Bearer prometheus=metrics:scrape", None),
        ("Bearer billing=YWJj==", None),
        ("Bearer billing", None),
        ("Bearer ro:", None),
        ("Bearer ", None),
        ("Bearer", None),
        ("Bearer ful", None),
        ("Bearer fulll", None),
        ("Basic full", None),
        ("full", None),
        ("", None),
        (None, None),
        ("Bearer \udcff€", None),
    ],
)
def test_key_allows_what_its_entry_says(header: str | None, scope: Scope | None) -> None:
    found = KEYS.find(header)
    assert (found and found.scope) == scope


@pytest.mark.parametrize("header", [None, "", "Bearer ", "Bearer x"])
def test_without_keys_no_request_shows_one(header: str | None) -> None:
    assert ApiKeyAuth((), NO_SERVER, NO_SERVER).find(header) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_addresses_of_one_customer_count_as_one(address: str, network: str) -> None:
    assert network_of(address) == network

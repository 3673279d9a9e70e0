"""Which proxy a request goes through: that of the URL's scheme, unless its host is reached directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.config import load

if TYPE_CHECKING:
    from pathlib import Path

VENDOR = "https://server.headshotpro.com/api/v2"


@pytest.mark.parametrize(
    ("given_", "url", "proxy"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, VENDOR, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128/"}, VENDOR, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, VENDOR, "http://lower:1"),
        ({"HTTPS_PROXY": "proxy:3128"}, VENDOR, "http://proxy:3128"),
        ({"HTTPS_PROXY": "https://u:p%40@proxy:3128"}, VENDOR, "https://u:p%40@proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, VENDOR, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://vendor.example/api", "http://proxy:3128"),
        ({"HTTPS_PROXY": "", "https_proxy": "http://proxy:3128"}, VENDOR, "http://proxy:3128"),
    ],
)
def test_a_proxy_is_the_one_of_the_urls_scheme(
    nowhere: Path, given_: dict[str, str], url: str, proxy: str | None
) -> None:
    assert load(environ=given_, dotenv=nowhere).proxy_for(url) == proxy


def test_a_loopback_address_is_never_proxied(nowhere: Path) -> None:
    settings = load(environ={"HTTP_PROXY": "http://proxy:3128", "HTTPS_PROXY": "http://proxy:3128"}, dotenv=nowhere)
    for host in ("localhost", "LOCALHOST:8000", "api.localhost", "127.0.0.1:1", "127.8.9.1", "[::1]:80"):
        assert settings.proxy_for(f"http://{host}/api") is None
        assert settings.proxy_for(f"https://{host}/api") is None


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("example.com", ["example.com", "a.example.com", "EXAMPLE.com:8000"], ["badexample.com", "example.com.evil"]),
        (".example.com", ["a.example.com", "example.com"], ["badexample.com"]),
        ("*.example.com", ["a.example.com"], ["badexample.com"]),
        ("a.example, b.example c.example", ["a.example", "b.example", "c.example"], ["d.example"]),
        ("example.com:8000", ["example.com:8000"], ["example.com", "example.com:8001"]),
        ("10.0.0.0/8,2001:db8::/32", ["10.1.2.3", "[2001:db8::7]"], ["11.1.2.3", "[2001:db9::7]"]),
        ("10.1.2.3,[2001:db8::7]:80", ["10.1.2.3:9", "[2001:db8::7]"], ["10.1.2.4", "[2001:db8::7]:81"]),
        ("*", ["anything.example"], []),
        (",, ,.", [], ["example.com"]),
    ],
)
def test_no_proxy_names_what_is_reached_directly(
    nowhere: Path, no_proxy: str, direct: list[str], proxied: list[str]
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        settings = load(environ={"HTTP_PROXY": "http://proxy:3128", name: no_proxy}, dotenv=nowhere)
        for host in direct:
            assert settings.proxy_for(f"http://{host}/api") is None, host
        for host in proxied:
            assert settings.proxy_for(f"http://{host}/api") == "http://proxy:3128", host

"""Which proxy an outgoing request goes through: the variables that curl and Python's libraries know. Pure.

Their rules differ in corners; here curl's hold, and loopback addresses are never proxied.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

SCHEMES = ("http", "https")


def proxy_url(given: str) -> str:
    """A proxy's URL in its full form; curl takes `host:port` for `http://host:port`.

    Raises:
        ValueError: it is no URL of an HTTP proxy.
    """
    url = given if "://" in given else f"http://{given}"
    parts = urlsplit(url)
    port_missing = parts.port is None and "://" not in given
    if parts.scheme not in SCHEMES or not parts.hostname or parts.port == 0 or port_missing:
        raise ValueError("no proxy")
    is_visible = url.isascii() and url.isprintable() and " " not in url
    if parts.path not in ("", "/") or parts.query or parts.fragment or not is_visible:
        raise ValueError("no proxy")
    return url.rstrip("/")


def bypasses_proxy(url: str, no_proxy: str) -> bool:
    """Whether a request goes to its host directly.

    Args:
        url: of the request.
        no_proxy: hosts with commas or blanks between them: a name (its subdomains too, with or without a leading
            dot), an address, a network such as `10.0.0.0/8`, each with or without a port; or `*` for all.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if host == "localhost" or host.endswith(".localhost") or _is_loopback(host):
        return True
    return any(_matches_entry(entry.lower(), host, port) for entry in no_proxy.replace(",", " ").split())


def _matches_entry(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name, _, given_port = entry.rpartition(":")
    if name and given_port.isdigit() and (":" not in name or name.endswith("]")):
        if int(given_port) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        name = entry.removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

"""Where outgoing webhooks may go: any service, private ones included, but no link-local and no metadata address.

From a metadata address a cloud hands out credentials of the machine. A name may resolve to one only at the moment of
the request (DNS rebinding): so the addresses that a name resolves to are checked, and the connection goes to one that
was checked.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

MAX_URL_LENGTH = 2048
# Services that hand out credentials or settings of the machine, and that no range below includes: AWS over IPv6
# (metadata, EKS Pod Identity), Google Cloud over IPv6, Scaleway over IPv6, Azure, Alibaba Cloud, Oracle Cloud.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "168.63.129.16", "100.100.100.200",
            "192.0.0.192",
        ),
    )
)  # fmt: skip
# IPv6 addresses that hold an IPv4 address in their last 32 bits: NAT64 (RFC 6052, RFC 8215), translated (RFC 2765) and
# IPv4-compatible ones.
_EMBEDDING = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")))
# Other characters are read in several ways: some clients and proxies decode `%2e`, some end a host at a backslash.
_HOST = re.compile(r"[A-Za-z0-9._:-]+")


class AddressRefused(OSError):
    """A receiver's address is one to which nothing may be sent."""


def refusal(address: str) -> str | None:
    """Why nothing may be sent to an IP address; None where something may."""
    parsed = ip_address(address.partition("%")[0])
    for one in (parsed, *_embedded(parsed)):
        if one in _METADATA:
            return f"{address} is a metadata address"
        if one.is_link_local:
            return f"{address} is a link-local address"
        if one.is_multicast or one.is_unspecified or one == IPv4Address("255.255.255.255"):
            return f"{address} is the address of no single machine"
    return None


def _embedded(address: IPv4Address | IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses to which an IPv6 address may lead."""
    if isinstance(address, IPv4Address) or int(address) <= 1:
        return ()
    found = [address.ipv4_mapped, address.sixtofour]
    if any(address in network for network in _EMBEDDING):
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(one for one in found if one is not None)


def refusal_of_literal(host: str) -> str | None:
    """Why a host that is written as an address is refused; None where it may be used, or is a name.

    Resolvers and proxies also take `169.254.43518`, `0xA9FEA9FE` and the like for addresses.
    """
    try:
        return refusal(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            return "a host may have letters, digits, dots, hyphens and underscores alone"
    try:
        return refusal(socket.inet_ntoa(socket.inet_aton(host.rstrip("."))))
    except OSError:
        return None


def url_problem(url: str) -> str | None:
    """Why a URL cannot be a subscription's; None where it can."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "it is malformed"
    if not (url.isascii() and url.isprintable()) or " " in url or len(url) > MAX_URL_LENGTH:
        return f"it has to be at most {MAX_URL_LENGTH} printable ASCII characters without blanks"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "it has to be an http:// or https:// URL"
    if parts.username is not None or parts.password is not None or "#" in url:
        return "it may hold no user name, password or fragment"
    return refusal_of_literal(parts.hostname)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host to which something may be sent, in the resolver's order.

    Raises:
        AddressRefused: it has no other than refused ones.
        OSError: the name does not resolve.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    allowed = [address for address in addresses if refusal(address) is None]
    if not allowed:
        raise AddressRefused(f"refused: {refusal(addresses[0])}")
    return allowed

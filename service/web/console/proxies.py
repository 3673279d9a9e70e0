"""Headers of a reverse proxy that is one of TRUSTED_PROXIES: the user who logged in, and the client's address."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from flask import Request

    from service.config import Settings

MAX_USER_LENGTH = 200


class ProxyHeaders:
    """Reads headers that only a trusted proxy may set."""

    def __init__(self, settings: Settings) -> None:
        self._networks = settings.proxy_networks
        self._header = settings.console_proxy_user_header

    def user(self, request: Request) -> str | None:
        """The name of the user whom a trusted proxy let in; None where there is none."""
        if self._header is None or not _is_in(request.remote_addr, self._networks):
            return None
        user = request.headers.get(self._header, "").strip()
        # A proxy that passes a client's own header on beside its own would send two, joined by a comma.
        if not user or not user.isprintable() or "," in user or len(user) > MAX_USER_LENGTH:
            return None
        return user

    def address(self, request: Request) -> str:
        """The client's address: behind trusted proxies the last one of `X-Forwarded-For` that is not theirs."""
        address = request.remote_addr or "unknown"
        forwarded = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
        while forwarded and _is_in(address, self._networks):
            address = forwarded.pop() or address
        return address


def _is_in(address: str | None, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return any((mapped or parsed) in network for network in networks)

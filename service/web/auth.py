"""Access by bearer keys to our HTTP API and `/metrics`, and the limit on wrong keys."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any

import structlog
from flask import g, request

from service.broker.client import translate_redis_errors
from service.broker.counters import REFUSED_KEYS
from service.config.api_keys import ApiKey, Scope
from service.errors import ApiError, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from service.broker.counters import Counters

log = structlog.get_logger(__name__)

_SCHEME = "bearer "

# From one address, wrong keys a minute that get a 401; those beyond get a 429.
MAX_FAILED_KEYS = 10
WINDOW_SECONDS = 60


class ApiKeyAuth:
    """Lets a request in by its key, or refuses it; without keys, no request may do anything.

    A right key is always let in, however many wrong ones came from its address: behind a proxy all callers share one.
    Where two entries have the same key, the wider scope counts.
    """

    def __init__(self, keys: Iterable[ApiKey], client: redis.Redis, counters: Counters) -> None:
        self._keys = [(_digest(one.key.encode()), one) for one in keys]
        self._client: Any = client
        self._counters = counters

    def find(self, header: str | None) -> ApiKey | None:
        """The key in an `Authorization` header, as WSGI gives it; None where it is not one of MIRROR_API_KEYS.

        It takes the same time whatever is wrong: digests are compared, each of them, to the end.
        """
        if not has_bearer_key(header):
            return None
        # WSGI decodes the bytes of a header as Latin-1, whatever they are.
        shown = _digest(str(header)[len(_SCHEME) :].strip().encode("latin-1", "replace"))
        found = [one for digest, one in self._keys if compare_digest(shown, digest)]
        return max(found, key=lambda one: one.scope, default=None)

    def require(self, needed: Scope) -> None:
        """Let this request in; `g.caller` is its key from then on, also where the key may not do this.

        Raises:
            ApiError: 401, 403; 429 where too many wrong keys came from this address.
        """
        header = request.headers.get("Authorization")
        caller = self.find(header)
        if caller is None:
            raise self._unauthorized(shown=has_bearer_key(header))
        g.caller = caller
        if caller.scope < needed:
            may = "read /metrics" if caller.scope is Scope.METRICS else "read"
            raise ApiError(403, "FORBIDDEN", f"This API key may only {may}")

    def _unauthorized(self, *, shown: bool) -> ApiError:
        count, seconds = self._count() if shown else (0, 0)
        if count > MAX_FAILED_KEYS:
            self._counters.add(REFUSED_KEYS, "limited")
            message = "Too many wrong API keys: try again later"
            return ApiError(429, "RATE_LIMIT_EXCEEDED", message, headers={"Retry-After": str(max(1, seconds))})
        self._counters.add(REFUSED_KEYS, "wrong" if shown else "missing")
        return ApiError(401, "UNAUTHORIZED", "Invalid or missing API key", headers={"WWW-Authenticate": "Bearer"})

    def _count(self) -> tuple[int, int]:
        """Count and log a wrong key: how many came within the minute to all web processes, and the seconds it has left.

        One line is logged for all beyond the limit, so that no caller fills the log.
        """
        address = request.remote_addr or "unknown"
        key = f"headshotpro:failed_keys:{network_of(address)}"
        count, seconds = 0, 0
        with suppress(RedisUnavailable), translate_redis_errors(), self._client.pipeline() as pipeline:
            pipeline.set(key, 0, nx=True, ex=WINDOW_SECONDS)
            pipeline.incr(key)
            pipeline.ttl(key)
            _, count, seconds = pipeline.execute()
        if count <= MAX_FAILED_KEYS + 1:
            log.warning("key.refused", address=address, limited=count > MAX_FAILED_KEYS)
        return count, seconds


def has_bearer_key(header: str | None) -> bool:
    """Whether an `Authorization` header holds a bearer key at all."""
    return header is not None and header[: len(_SCHEME)].lower() == _SCHEME and bool(header[len(_SCHEME) :].strip())


def network_of(address: str) -> str:
    """The network that counts as one address: of IPv6 the first 64 bits, which one customer of a provider has alone."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False).network_address)


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()

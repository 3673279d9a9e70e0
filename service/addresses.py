"""URLs that name several servers: Postgres hosts of which one takes writes, Sentinels that know the Redis that does.

Pure, and without the clients of either: settings are checked before those are loaded.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

# Scheme, user and password, hosts, path, query.
_URL = re.compile(r"([^:/]+)://(?:([^/?]*)@)?([^/?]*)([^?]*)\??(.*)", re.DOTALL)
_HOST = re.compile(r"(\[[^\]]+\]|[^:\[\]]*)(?::(\d{1,5}))?")

SENTINEL_PORT = 26379
# These options are for the Sentinels, without the prefix; all others for Redis.
SENTINEL_OPTION_PREFIX = "sentinel_"


def hosts_in_query(url: str) -> str:
    """A `postgresql://h1:5432,h2:5432/…` with its hosts in the query; any other URL as it is.

    libpq knows both spellings, SQLAlchemy and Python's own parser only this one.

    Raises:
        ValueError: one of several hosts is none.
    """
    match = _URL.fullmatch(url)
    if match is None or "," not in match[3]:
        return url
    scheme, names, hosts, path, query = match.groups()
    pairs = _hosts(hosts)
    options = [query] if query else []
    options.append("host=" + ",".join(host for host, _ in pairs))
    if any(port for _, port in pairs):
        options.append("port=" + ",".join(port for _, port in pairs))
    return f"{scheme}://{names + '@' if names else ''}{path or '/'}?{'&'.join(options)}"


class SentinelGroup(NamedTuple):
    """The parts of a `redis+sentinel://` URL.

    Attributes:
        addresses: host and port of each Sentinel.
        service: the name under which they know the servers.
        options: of the connections to them: `username`, `password`.
        url: `redis://` or `rediss://`, with all that is for Redis itself; its host is a placeholder.
    """

    addresses: list[tuple[str, int]]
    service: str
    options: dict[str, str]
    url: str


def parse_sentinel_url(url: str) -> SentinelGroup | None:
    """Read `redis+sentinel://user:password@h1:26379,h2:26379/service/0?sentinel_password=…`, or `rediss+…` for TLS.

    Returns:
        None for a URL that names one server.

    Raises:
        ValueError: a host or the service's name is missing or malformed.
    """
    match = _URL.fullmatch(url)
    if match is None or not match[1].endswith("+sentinel"):
        return None
    scheme, names, hosts, path, query = match.groups()
    service, _, database = path.strip("/").partition("/")
    addresses = [(host, int(port or SENTINEL_PORT)) for host, port in _hosts(hosts)]
    if not service or not all(host for host, _ in addresses):
        raise ValueError("the name of the service is missing")
    given = parse_qsl(query, keep_blank_values=True)
    own = {
        name.removeprefix(SENTINEL_OPTION_PREFIX): value
        for name, value in given
        if name.startswith(SENTINEL_OPTION_PREFIX)
    }
    rest = urlencode([(name, value) for name, value in given if not name.startswith(SENTINEL_OPTION_PREFIX)])
    plain = f"{scheme.removesuffix('+sentinel')}://{names + '@' if names else ''}sentinel/{database or '0'}?{rest}"
    return SentinelGroup(addresses, service, own, plain)


def _hosts(hosts: str) -> list[tuple[str, str]]:
    """Host and port of each; no port is an empty one.

    Raises:
        ValueError: one is malformed.
    """
    found = []
    for host in hosts.split(","):
        match = _HOST.fullmatch(host)
        if match is None:
            raise ValueError("a host is malformed")
        found.append((match[1].strip("[]"), match[2] or ""))
    return found

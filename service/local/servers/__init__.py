"""Postgres and Valkey on this machine, from wheels, for `headshot-mirror up` and the tests."""

from __future__ import annotations

from service.local.servers.folder import locked, make_folder, read_or_make_secret, write_private
from service.local.servers.postgres import Postgres
from service.local.servers.process import free_port, is_port_free
from service.local.servers.valkey import Valkey

__all__ = [
    "Postgres",
    "Valkey",
    "free_port",
    "is_port_free",
    "locked",
    "make_folder",
    "read_or_make_secret",
    "write_private",
]

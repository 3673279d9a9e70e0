"""Postgres and Valkey on this machine, from wheels, for `headshot-mirror up` and the tests."""

from __future__ import annotations

from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey

__all__ = ["Postgres", "Valkey"]

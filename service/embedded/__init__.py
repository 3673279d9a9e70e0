"""Postgres and Valkey on this machine, from wheels, for `headshot-mirror up` and the tests."""

from __future__ import annotations

from service.embedded.children import Child, Process, Watch, end_all
from service.embedded.folder import locked, make_folder, write_private
from service.embedded.postgres import Postgres
from service.embedded.process import free_port, is_free
from service.embedded.valkey import Valkey

__all__ = [
    "Child",
    "Postgres",
    "Process",
    "Valkey",
    "Watch",
    "end_all",
    "free_port",
    "is_free",
    "locked",
    "make_folder",
    "write_private",
]

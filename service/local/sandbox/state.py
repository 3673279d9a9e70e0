"""The state that a sandbox keeps, in one SQLite file: models, deliveries and the account. A step is a transaction."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import msgspec

from service.errors import LocalServerError, SettingsError
from service.local.sandbox.account import Account
from service.local.sandbox.model import VendorModel
from service.local.sandbox.sender import VendorDelivery

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Form = TypeVar("Form")
TABLES = """
create table if not exists account (id integer primary key, row blob not null);
create table if not exists models (id text primary key, row blob not null) without rowid;
create table if not exists deliveries (id integer primary key, row blob not null);
"""


class VendorState(NamedTuple):
    account: Account
    models: list[VendorModel]
    deliveries: list[VendorDelivery]


class StateFile:
    """One file that one process owns.

    Args:
        path: made where it is missing, with its folder.
        timeout: seconds to wait for a process that still has it.

    Raises:
        LocalServerError: another process has it open.
        SettingsError: it is not such a file, or cannot be made.
    """

    def __init__(self, path: Path, timeout: float = 2.0) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=timeout, isolation_level=None)
            self._file.execute("pragma locking_mode = exclusive")
            self._file.execute("pragma journal_mode = wal")
            # A kill loses nothing that was committed; only a power cut could, and the sandbox is a toy.
            self._file.execute("pragma synchronous = off")
            self._file.executescript(TABLES)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise LocalServerError(f"{path} is in use by another sandbox: end that one first") from None
            raise SettingsError(f"the state file {path} cannot be opened: {error}") from None
        except sqlite3.DatabaseError:
            raise SettingsError(f"the state file {path} is no file of the sandbox's") from None
        except OSError as error:
            raise SettingsError(f"the state file {path} cannot be opened: {error.strerror}") from None
        self._account = b""

    def load(self) -> VendorState | None:
        """The state that the last process kept, or None where the file is new.

        Raises:
            SettingsError: another version of the sandbox wrote it.
        """
        try:
            accounts = self._rows("account", Account)
            if not accounts:
                return None
            return VendorState(accounts[0], self._rows("models", VendorModel), self._rows("deliveries", VendorDelivery))
        except msgspec.DecodeError as error:
            raise SettingsError(f"the state file is another version's, delete it to begin anew: {error}") from None

    def write(
        self, account: Account, models: Mapping[str, VendorModel], deliveries: Mapping[int, VendorDelivery | None]
    ) -> None:
        """Keep what has changed, in one transaction; a delivery that is None is done with."""
        encode = msgspec.json.encode
        row = encode(account)
        if not models and not deliveries and row == self._account:
            return
        kept = [(key, encode(delivery)) for key, delivery in deliveries.items() if delivery is not None]
        done = [(key,) for key, delivery in deliveries.items() if delivery is None]
        with self._file as file:
            file.execute("begin")
            file.execute("replace into account values (1, ?)", (row,))
            file.executemany(
                "replace into models values (?, ?)", [(key, encode(model)) for key, model in models.items()]
            )
            file.executemany("replace into deliveries values (?, ?)", kept)
            file.executemany("delete from deliveries where id = ?", done)
        self._account = row

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _rows(self, table: Literal["account", "models", "deliveries"], form: type[Form]) -> list[Form]:
        decode = msgspec.json.Decoder(form).decode
        # The name is one of three constants.
        return [decode(row) for (row,) in self._file.execute(f"select row from {table} order by id")]  # noqa: S608

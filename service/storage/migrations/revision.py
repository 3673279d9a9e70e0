"""Which revision the schema has, and whether this code can work with it.

Every process checks this at its start, so nothing here imports Alembic: only `schema` does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

import service
from service.errors import SchemaOutdated, SchemaUnreleased
from service.storage import database
from service.storage.tables import SCHEMA

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


# Before the first release a revision was named by its number alone.
_UNRELEASED = re.compile(r"\d{4}")


def location() -> Path:
    """The migrations: inside the package where it was installed from a wheel, beside it in a checkout."""
    package = Path(service.__file__).parent
    packaged = package / "migrations"
    return packaged if packaged.is_dir() else package.parent / "alembic"


def revisions() -> tuple[str, ...]:
    """Every revision that this code knows, the oldest first: the names of its files."""
    return tuple(sorted(path.stem for path in (location() / "versions").glob("[0-9]*_*.py")))


def newest() -> str:
    """The newest revision that this code knows."""
    return revisions()[-1]


def known(connection: Connection) -> str | None:
    """The database's revision; None where it was never migrated.

    Raises:
        SchemaUnreleased: code from before the first release made the schema.
    """
    exists = connection.execute(text("SELECT to_regclass(:name)"), {"name": f"{SCHEMA}.alembic_version"}).scalar()
    if exists is None:
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM headshotpro.alembic_version")).scalar()
    if found is not None and _UNRELEASED.fullmatch(found):
        raise SchemaUnreleased(
            f"the schema is at revision {found}, which was never released: {SchemaUnreleased.action}"
        )
    return found


def check(engine: Engine) -> str:
    """The database's revision, when this code can work with it.

    A revision that this code does not know belongs to newer code, whose migrations only add: it is fine.

    Raises:
        SchemaOutdated: it is older than the code.
        PostgresUnavailable: Postgres cannot be reached.
    """
    with database.transaction(engine) as connection:
        found = known(connection)
    if found is None or found in revisions()[:-1]:
        raise SchemaOutdated(
            f"the schema is at revision {found or 'none'}, this code needs {newest()}: {SchemaOutdated.action}"
        )
    return found

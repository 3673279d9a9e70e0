"""`headshotpro_reader`: the role by which dashboards read, and nothing else. Each `migrate` grants what there is.

It cannot log in: a DBA makes logins for people and tools, and puts them into it. So a role that was missing at one
`migrate` works from the next one on, and tables or views that a later revision brings are granted with that revision.

Why: `docs/decisions/0017-views-without-summaries.md`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from service.storage.tables import SCHEMA, metadata

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

READER_ROLE = "headshotpro_reader"

# The tables that people may read, besides every view. Other tables are internal, and hold bodies as they were sent.
READABLE_TABLES = tuple(
    metadata.tables[f"{SCHEMA}.{name}"]
    for name in (
        *("models", "model_changes", "webhook_events", "pulls", "set_aside", "accuracy_checks", "alerts", "processes"),
        *("subscriptions", "subscription_deliveries"),
    )
)
# Bodies hold more personal data than any dashboard needs; with a secret anyone can sign.
HIDDEN_COLUMNS = {"webhook_events": ("payload",), "subscriptions": ("secret", "previous_secret")}

# Two databases of one server may be migrated at the same moment, and roles are the server's.
_CREATE_ROLE = """
DO $$
BEGIN
    IF to_regrole('headshotpro_reader') IS NULL
        AND (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)
    THEN
        CREATE ROLE headshotpro_reader NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$
"""

_GRANT = """
DO $$
DECLARE
    view regclass;
BEGIN
    IF to_regrole('headshotpro_reader') IS NULL THEN
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA headshotpro TO headshotpro_reader;
    -- tables
    FOR view IN SELECT oid FROM pg_class WHERE relnamespace = 'headshotpro'::regnamespace AND relkind IN ('v', 'm') LOOP
        EXECUTE format('GRANT SELECT ON %s TO headshotpro_reader', view);
    END LOOP;
    GRANT EXECUTE ON FUNCTION headshotpro.model_as_of(text, timestamptz) TO headshotpro_reader;
END
$$
"""


def script() -> tuple[str, str]:
    """The SQL that makes the role, and the one that grants; both may be run again and again."""
    tables = (f"GRANT SELECT{_shown(table)} ON {table.fullname} TO {READER_ROLE};" for table in READABLE_TABLES)
    return _CREATE_ROLE, _GRANT.replace("-- tables", "\n    ".join(tables))


def grant(connection: Connection) -> str | None:
    """Make the role where that is allowed, and grant it what there is to read.

    The transaction is of the role that owns the schema; it goes on whatever is refused here.

    Returns:
        One line about what was skipped, and what to do; None where nothing was.
    """
    for statement in script():
        # A refused grant shows as a missing right; Postgres only warns of some.
        with suppress(ProgrammingError), connection.begin_nested():
            connection.execute(text(statement))
    if connection.execute(text("SELECT to_regrole(:role)"), {"role": READER_ROLE}).scalar() is None:
        return (
            f"Skipped: {READER_ROLE} was not made, because this user may not make roles. "
            f"Have a DBA run `CREATE ROLE {READER_ROLE} NOLOGIN`, then migrate again."
        )
    missing = connection.execute(
        _UNREADABLE, {"role": READER_ROLE, "tables": [table.name for table in READABLE_TABLES]}
    ).scalars()
    if names := ", ".join(missing):
        return f"Skipped: {READER_ROLE} may not read {names}; the schema's owner has to run this."
    return None


_UNREADABLE = text(
    """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'headshotpro'::regnamespace
        AND (relkind IN ('v', 'm') OR relname = ANY(CAST(:tables AS text[])))
        AND NOT (
            has_schema_privilege(CAST(:role AS text), relnamespace, 'USAGE')
            AND has_any_column_privilege(CAST(:role AS text), oid, 'SELECT')
        )
    ORDER BY relname
    """
)


def _shown(table: Table) -> str:
    """The columns that are granted, where not all are."""
    hidden = HIDDEN_COLUMNS.get(table.name)
    return f" ({', '.join(one.name for one in table.columns if one.name not in hidden)})" if hidden else ""

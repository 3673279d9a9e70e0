"""How Alembic meets this project: schema-qualified, its own version table, only `service.storage.schema` starts it."""

from __future__ import annotations

from alembic import context
from service.storage.tables import SCHEMA, metadata


def _only_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Other schemas of the same database are nobody's business here."""
    return name == SCHEMA if kind == "schema" else True


options = {
    "target_metadata": metadata,
    "version_table_schema": SCHEMA,
    "include_schemas": True,
    "include_name": _only_ours,
    "transaction_per_migration": True,
}

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, dialect_opts={"paramstyle": "named"}, **options)
    with context.begin_transaction():
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        context.run_migrations()
else:
    context.configure(connection=context.config.attributes["connection"], **options)
    with context.begin_transaction():
        context.run_migrations()

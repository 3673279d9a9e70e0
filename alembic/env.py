"""How Alembic meets this project: schema-qualified, its own version table, only `service.storage.migrations.schema` starts it."""

from __future__ import annotations

from alembic import context

from service.storage.tables import SCHEMA, metadata


def _only_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Other schemas of the same database are left alone."""
    return name == SCHEMA if kind == "schema" else True


options = {
    "target_metadata": metadata,
    "version_table_schema": SCHEMA,
    "include_schemas": True,
    "include_name": _only_ours,
    "compare_server_default": True,
    # Each revision commits by itself, so that no lock outlives it.
    "transaction_per_migration": True,
}

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, dialect_opts={"paramstyle": "named"}, **options)
else:
    connection = context.config.attributes["connection"]
    # A user who is named like the schema has it in the search path, and Alembic would take it for the unnamed default.
    connection.dialect.default_schema_name = "public"
    context.configure(connection=connection, **options)

with context.begin_transaction():
    context.run_migrations()

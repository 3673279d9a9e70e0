"""`alembic check` against a real Postgres: fails where the migrations make another schema than the tables say."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from service.embedded import Postgres
from service.storage import database, schema


def main() -> int:
    """Migrate a fresh database and compare; 1 where anything differs."""
    with tempfile.TemporaryDirectory(prefix="hm-") as folder, Postgres.start(Path(folder), durable=False) as server:
        schema.migrate(server.url)
        schema.migrate(server.url)
        with database.transaction(database.connect(server.url)) as connection:
            differences = schema.differences(connection)
    for difference in differences:
        print(f"the migrations differ from the tables: {difference}")
    print(f"{len(differences)} differences between migrations and tables")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main())

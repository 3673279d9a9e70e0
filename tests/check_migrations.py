"""`alembic check` against a real Postgres: fails where the migrations make another schema than the tables say."""

from __future__ import annotations

import tempfile
from pathlib import Path

from service.storage.migrations import schema
from tests.support.servers import QuickPostgres


def main() -> None:
    """Migrate a fresh database, twice, and compare."""
    with tempfile.TemporaryDirectory(prefix="hm-") as folder, QuickPostgres.start(Path(folder)) as server:
        schema.migrate(server.url)
        schema.migrate(server.url)
        schema.compare(server.url)


if __name__ == "__main__":
    main()

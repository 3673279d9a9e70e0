"""A pull by dlt's `rest_api` source: `dlt_pull.py URL KEY DATABASE FOLDER scd2|merge|replace prepare|pull`.

`bench.pulls` runs it with the Python of .bench. `scd2` keeps the history of each row, in a table with the indexes of
ours; `merge` keeps rows by their key, as dlt's documentation begins; `replace` loads a table anew with all that the
documentation says of speed. Times are those of `pipeline.run`, without the imports. The folder keeps dlt's state.
"""

import json
import os
import resource
import sys
import time
from typing import Any

# https://dlthub.com/docs/reference/performance: workers for each stage, and files small enough to share out among them.
FAST_SETTINGS = {
    "EXTRACT__WORKERS": "4",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "4",
    "DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    "DATA_WRITER__FILE_MAX_ITEMS": "50000",
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
}
# The indexes of our `models` by dlt's names of the columns, and those by which history is read.
INDEXES = """
    (id)
    (email)
    (created_at, id) include (status)
    (status, created_at, id)
    (team_id, created_at, id) include (status)
    (((created_at at time zone 'UTC')::date), team_id) include (created_at)
    (((finished_at at time zone 'UTC')::date), team_id) include (finished_at)
    (id) include (team_id) where finished_at is null
    (id, _dlt_valid_from)
    (_dlt_valid_from)
    (status, _dlt_valid_from)
"""
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def models(url: str, key: str, disposition: Any) -> Any:
    """The source as dlt's documentation shows it."""
    from dlt.sources.rest_api import rest_api_source

    paginator = {"type": "offset", "limit": 200, "total_path": "pagination.total"}
    endpoint = {"path": "organization/models", "data_selector": "models", "paginator": paginator}
    listed = {"name": "models", "primary_key": "id", "write_disposition": disposition, "endpoint": endpoint}
    client = {"base_url": f"{url}/", "auth": {"type": "bearer", "token": key}}
    return rest_api_source({"client": client, "resources": [listed]}).models


def arrow(page: list[dict[str, Any]]) -> Any:
    """A page as an Arrow table."""
    import pyarrow as pa

    found = pa.Table.from_pylist(page)
    for name in ("createdAt", "finishedAt"):
        times = found.column(name).cast(pa.timestamp("us", "UTC"))
        found = found.set_column(found.schema.get_field_index(name), name, times)
    return found


def main(url: str, key: str, database: str, folder: str, way: str, step: str) -> None:
    os.environ |= {"DLT_DATA_DIR": folder, "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    os.environ |= FAST_SETTINGS if way == "replace" else {}
    import dlt

    destination = dlt.destinations.postgres(database)
    pipeline = dlt.pipeline(way, destination=destination, dataset_name=way, pipelines_dir=folder)
    source = models(url, key, {"disposition": "merge", "strategy": "scd2"} if way == "scd2" else way)
    if way == "replace":
        table = dlt.transformer(arrow, name="models", primary_key="id", write_disposition="replace")
        source = source.with_name("pages") | table
    if step == "prepare":
        pipeline.run(source).raise_on_failed_jobs()
        with pipeline.sql_client() as client:
            client.execute_many([f"create index on models {columns}" for columns in INDEXES.strip().splitlines()])
            client.execute_sql("truncate models")
        print("{}")
        return
    # Of this process and of its children that ended.
    began, cpu = time.perf_counter(), sum(os.times()[:4])
    pipeline.run(source, loader_file_format="csv" if way == "replace" else None).raise_on_failed_jobs()
    found = {"seconds": time.perf_counter() - began, "cpu": sum(os.times()[:4]) - cpu}
    print(json.dumps({**found, "peak_mb": max(resource.getrusage(who).ru_maxrss for who in WHO) / 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])

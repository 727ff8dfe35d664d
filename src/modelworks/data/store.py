"""The folder of an ingested table: the table, its schema, its bad rows and how it was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelworks.core.errors import DataError
from modelworks.core.schema import Schema

TABLE = "table.arrow"
SCHEMA = "schema.json"
QUARANTINE = "quarantine.parquet"
REPORT = "ingest.json"


def write_table(folder: Path, table: pa.Table, schema: Schema) -> None:
    """Write the table as one uncompressed Arrow IPC record batch, and its schema."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = table.unify_dictionaries().combine_chunks()
    with pa.OSFile(str(folder / TABLE), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
        writer.write_table(whole)
    (folder / SCHEMA).write_text(json.dumps(schema.to_json(), ensure_ascii=False), encoding="utf-8")


def write_quarantine(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the bad rows: ``_record``, ``_reason``, ``_text``."""
    import pyarrow.parquet

    layout = pa.schema([("_record", pa.int64()), ("_reason", pa.string()), ("_text", pa.string())])
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=layout), folder / QUARANTINE)


def open_table(folder: Path | str) -> tuple[pa.Table, Schema]:
    """Open an ingested table without copying it into memory.

    Raises:
        DataError: The folder holds no table or a damaged one.
    """
    place = Path(folder)
    try:
        with pa.memory_map(str(place / TABLE), "r") as source:
            table = pa.ipc.open_file(source).read_all()
        schema = Schema.from_json(json.loads((place / SCHEMA).read_text(encoding="utf-8")))
    except (OSError, pa.ArrowInvalid, ValueError, KeyError) as error:
        raise DataError(
            "The ingested table cannot be opened.",
            code="MW1110",
            where=str(place),
            hint="ingest the source again",
        ) from error
    return table, schema

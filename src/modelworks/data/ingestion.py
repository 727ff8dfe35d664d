"""Reading any source into a folder that later steps map into memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from modelworks.core.errors import DataError
from modelworks.data.kinds import infer_schema
from modelworks.data.options import ReadOptions
from modelworks.data.store import REPORT, write_quarantine, write_table


def ingest(
    source: Any, folder: Path | str, options: ReadOptions | None = None, *, isolate: bool = True
) -> dict[str, Any]:
    """Read a source into ``folder``.

    Args:
        source: Path, URL, SQL connection URL (with ``options.query``) or a pandas, polars or Arrow object.
        folder: Where ``table.arrow``, ``schema.json``, ``quarantine.parquet`` and ``ingest.json`` go.
        options: Overrides of what is found out.
        isolate: Parse in a limited child process; ``False`` where the caller is one already.

    Returns:
        The content of ``ingest.json``.

    Raises:
        DataError: The source cannot be read.
        LimitError: A limit of ``options.limits`` was reached.
    """
    options = options or ReadOptions()
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    table = _read(source, options)
    schema = infer_schema(table)
    if options.kinds:
        schema = schema.with_kinds(options.kinds)
    write_table(place, table, schema)
    write_quarantine(place, [])
    report = {"rows": table.num_rows, "columns": table.num_columns, "quarantined": 0, "warnings": []}
    (place / REPORT).write_text(json.dumps(report), encoding="utf-8")
    return report


def _read(source: Any, options: ReadOptions) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    path = Path(source)
    if not path.exists():
        raise DataError(f"There is no file '{path.name}'.", code="MW1111", where=str(path))
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    with pa.input_stream(str(path), compression="detect") as stream:
        head = pa.input_stream(str(path), compression="detect").read(65536).decode("utf-8", "replace")
        line = head.splitlines()[0] if head else ""
        delimiter = options.delimiter or max(",;\t|", key=line.count)
        header = options.header if options.header is not None else not any(c.isdigit() for c in line[:40])
        table = pyarrow.csv.read_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(autogenerate_column_names=not header),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                null_values=list(options.missing), strings_can_be_null=True, timestamp_parsers=[]
            ),
        )
    return table if header else table.rename_columns([f"c{index}" for index in range(table.num_columns)])

"""Reading the table of a line: one source, or a source and a ready-made test table behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelworks.data import ReadOptions

SEALED_FROM = "sealed_from"


def read_options(reading: Mapping[str, Any]) -> ReadOptions:
    """Return the options of an order's ``reading``, ``query`` and ``kinds``."""
    from modelworks.data import ReadOptions, TableLimits

    values = dict(reading)
    limits = {
        ours: values.pop(theirs)
        for theirs, ours in (("max_rows", "rows"), ("max_columns", "columns"), ("max_bytes", "file_bytes"))
        if theirs in values
    }
    return ReadOptions(**values, limits=replace(TableLimits(), **limits))


def read_table(
    source: str | Path, test: str | Path | None, reading: Mapping[str, Any], folder: Path, *, isolate: bool
) -> dict[str, Any]:
    """Read a source into ``folder``; rows of ``test`` come after those of ``source``.

    Returns:
        The report of ``ingest``, with ``sealed_from`` (first row of the test table) if there is one.

    Raises:
        DataError: A source cannot be read, or the test table has other columns.
    """
    from modelworks.data import ingest

    options = read_options(reading)
    if test is None:
        return dict(ingest(str(source), folder, options, isolate=isolate))
    from modelworks.data import join_test_table, open_table, write_table

    report = dict(ingest(str(source), folder, options, isolate=isolate))
    beside = folder / "test"
    ingest(str(test), beside, replace(options, kinds={}), isolate=isolate)
    table, schema = open_table(folder)
    joined = join_test_table(table, schema, open_table(beside)[0])
    write_table(folder / "both", joined.table, joined.schema)
    for file in (folder / "both").iterdir():
        file.replace(folder / file.name)  # a new file: the old one is mapped into memory
    shutil.rmtree(folder / "both")
    shutil.rmtree(beside)
    report |= {
        "rows": joined.table.num_rows,
        "warnings": [*report["warnings"], *joined.notes],
        SEALED_FROM: table.num_rows,
    }
    (folder / "ingest.json").write_text(json.dumps(report), encoding="utf-8")
    return report

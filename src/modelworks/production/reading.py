"""Reading the table of a line: one source, or a source and a ready-made test table behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import DataError

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
    import pyarrow as pa

    from modelworks.data import open_table

    parts = []
    for name, path in (("main", source), ("test", test)):
        ingest(str(path), folder / name, replace(options, kinds={}), isolate=isolate)
        parts.append(open_table(folder / name)[0])
    absent = sorted(set(parts[0].column_names) ^ set(parts[1].column_names))
    if absent:
        raise DataError(
            f"The test table and the training table do not have the same columns: {', '.join(absent)[:200]}.",
            code="MW1193",
            where=str(test),
            hint=f"mw data show {test}",
        )
    try:
        both = pa.concat_tables(
            [parts[0], parts[1].select(parts[0].column_names)], promote_options="permissive"
        )
    except pa.ArrowTypeError as error:
        raise DataError(
            f"A column has another type in the test table: {error}.", code="MW1194", where=str(test)
        ) from None
    report = dict(ingest(both, folder, options, isolate=False))
    report[SEALED_FROM] = parts[0].num_rows
    (folder / "ingest.json").write_text(json.dumps(report), encoding="utf-8")
    for name in ("main", "test"):
        shutil.rmtree(folder / name)
    return report

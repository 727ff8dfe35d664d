"""Reading the source of a line: a table, or samples of any form; with a ready-made test part behind it."""

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
    from modelworks.data.samples.ingestion import SampleReading

SEALED_FROM = "sealed_from"
_SAMPLES = ("file_column", "skip", "series_values", "series_key", "series_time")
"""Settings of ``reading`` that are about samples."""


def read_options(reading: Mapping[str, Any]) -> ReadOptions:
    """Return the options of an order's ``reading``, ``query`` and ``kinds``."""
    from modelworks.data import ReadOptions, TableLimits

    values = {key: value for key, value in reading.items() if key not in _SAMPLES}
    limits = {
        ours: values.pop(theirs)
        for theirs, ours in (("max_rows", "rows"), ("max_columns", "columns"), ("max_bytes", "file_bytes"))
        if theirs in values
    }
    return ReadOptions(**values, limits=replace(TableLimits(), **limits))


def sample_reading(reading: Mapping[str, Any], files: Path | None = None) -> SampleReading:
    """Return what an order's ``reading``, ``file_column`` and ``files`` say about samples."""
    from modelworks.data.samples.ingestion import SampleReading

    return SampleReading(
        files=files,
        file_column=reading.get("file_column"),
        skip=tuple(reading.get("skip", ())),
        values=tuple(reading.get("series_values", ())),
        key=reading.get("series_key"),
        time=reading.get("series_time"),
    )


def read_source(
    source: str | Path,
    folder: Path,
    reading: Mapping[str, Any],
    *,
    files: Path | None = None,
    isolate: bool = True,
) -> dict[str, Any]:
    """Read one source into ``folder``; returns the report of ``ingest``.

    Raises:
        DataError: It cannot be read.
    """
    from modelworks.data import ingest

    options = read_options(reading)
    local = Path(source).expanduser() if "://" not in str(source) else None
    if local is not None and local.exists():
        how = sample_reading(reading, files)
        if how.of(local):
            from modelworks.data.samples.ingestion import ingest_samples

            return ingest_samples(local, folder, options, how, isolate=isolate)
    return dict(ingest(str(source), folder, options, isolate=isolate))


def read_table(
    source: str | Path,
    test: str | Path | None,
    reading: Mapping[str, Any],
    folder: Path,
    *,
    files: Path | None = None,
    isolate: bool,
) -> dict[str, Any]:
    """Read a source into ``folder``; rows of ``test`` come after those of ``source``.

    Returns:
        The report of ``ingest``, with ``sealed_from`` (first row of the test table) if there is one.

    Raises:
        DataError: A source cannot be read, or the test table has other columns.
    """
    if test is None:
        return read_source(source, folder, reading, files=files, isolate=isolate)
    from modelworks.data import open_table
    from modelworks.data.samples.ingestion import KEYS, join_samples

    plain = {key: value for key, value in reading.items() if key != "kinds"}
    for name, path in (("main", source), ("test", test)):
        read_source(path, folder / name, plain, files=files, isolate=isolate)
    if (folder / "main" / KEYS).exists():
        report = join_samples(folder / "main", folder / "test", folder)
    else:
        parts = [open_table(folder / name)[0] for name in ("main", "test")]
        report = _joined(parts, test, read_options(reading), folder)
    for name in ("main", "test"):
        shutil.rmtree(folder / name)
    return report


def _joined(parts: list[Any], test: str | Path, options: ReadOptions, folder: Path) -> dict[str, Any]:
    import pyarrow as pa

    from modelworks.data import ingest

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
    return report

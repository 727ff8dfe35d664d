"""Reading the source of a line: a table, or samples of any form; with a ready-made test part behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelworks.data import ReadOptions
    from modelworks.data.samples.ingestion import SampleReading

SEALED_FROM = "sealed_from"
_SAMPLES = (
    "file_column",
    "skip",
    "series_values",
    "series_key",
    "series_time",
    "series_window",
    "series_stride",
)
"""Settings of ``reading`` that are about samples."""


def series_settings(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a table of series is read, which a package remembers: whoever asks it sends such tables too."""
    return {name: reading[name] for name in _SAMPLES if name.startswith("series_") and name in reading}


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
        window=int(reading.get("series_window", 0)),
        stride=int(reading.get("series_stride", 1)),
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
    report = read_source(source, folder, reading, files=files, isolate=isolate)
    if test is None:
        return report
    from modelworks.data import join_test_table, open_table, write_table
    from modelworks.data.samples.ingestion import KEYS, join_samples

    beside, both = folder / "test", folder / "both"
    plain = {key: value for key, value in reading.items() if key != "kinds"}
    read_source(test, beside, plain, files=files, isolate=isolate)
    rows = report["rows"]
    if (folder / KEYS).exists():
        joined = join_samples(folder, beside, both)
    else:
        table, schema = open_table(folder)
        joined = join_test_table(table, schema, open_table(beside)[0])
        write_table(both, joined.table, joined.schema)
    for file in both.iterdir():
        file.replace(folder / file.name)  # a new file: the old one is mapped into memory
    shutil.rmtree(both)
    shutil.rmtree(beside)
    report |= {
        "rows": joined.table.num_rows,
        "warnings": [*report["warnings"], *joined.notes],
        SEALED_FROM: rows,
    }
    (folder / "ingest.json").write_text(json.dumps(report), encoding="utf-8")
    return report

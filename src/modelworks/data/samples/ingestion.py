"""Reading samples of any form into the folder of an ingested table: labels typed as ever, the payload beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelworks.core.errors import DataError, close_matches
from modelworks.core.schema import SAMPLE_KINDS, Column, ColumnKind, Schema
from modelworks.data.ingestion import ingest
from modelworks.data.joining import Joined, join_test_table
from modelworks.data.options import ReadOptions
from modelworks.data.rowkeys import payload_keys
from modelworks.data.samples.archive import open_files
from modelworks.data.samples.coco import read_coco
from modelworks.data.samples.forms import Form, image_bytes_column, sample_form
from modelworks.data.samples.images import (
    ENDINGS,
    FILE,
    IMAGE,
    LABEL,
    PARTS,
    ReadSamples,
    part_of,
    read_image_bytes,
    read_image_folder,
    read_listed_images,
)
from modelworks.data.samples.series import (
    SERIES,
    read_listed_sounds,
    read_long,
    read_ts,
    read_wav_folder,
    read_wide,
)
from modelworks.data.store import REPORT, open_table, write_quarantine, write_table

KEYS = "keys.npy"
"""One uint64 per row: equal payloads have equal keys."""

MAX_TEXT_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SampleReading:
    """What a user may say about a source of samples.

    Attributes:
        form: What it is; found out when empty.
        files: Folder or zip file with the images or wav files that a column names.
        file_column: That column; the only one that names such files when ``None``.
        skip: Files whose name contains one of these texts are no samples.
        values: Columns of a table of series that hold values: one per moment of a wide table, in order of time; one
            per channel of a long table.
        key: Column of a long table that says which series a row belongs to.
        time: Column of a long table that orders its rows.
        window: Rows of a long table up to each moment that make a sample; 0 = a whole series is one.
        stride: Moments from one window to the next.
    """

    form: Form = ""
    files: Path | None = None
    file_column: str | None = None
    skip: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    key: str | None = None
    time: str | None = None
    window: int = 0
    stride: int = 1

    def of(self, source: Path) -> Form:
        """Return the form of a source."""
        if self.form:
            return self.form
        found = sample_form(source)
        if found == "coco":
            return found
        if self.files is not None:
            return "listed_sounds" if sample_form(self.files) == "sounds" else "listed"
        if self.key is not None or self.time is not None:
            return "long"
        return "wide" if self.values else found


def ingest_samples(
    source: Path, folder: Path, options: ReadOptions, how: SampleReading, *, isolate: bool = True
) -> dict[str, Any]:
    """Read samples into ``folder``, as ``ingest`` reads a table; ``keys.npy`` is written too.

    Args:
        source: File or folder.
        folder: Where the table goes.
        options: How its table of labels is read.
        how: What the user says about the samples.
        isolate: As for ``ingest``.

    Returns:
        The report of ``ingest``; ``format`` is the form of the samples.

    Raises:
        DataError: The source cannot be read.
    """
    form = how.of(source)
    work = folder / "labels"
    read = _read(form, source, work, options, how, isolate)
    payload = next(
        name for name in (IMAGE, SERIES, *read.table.column_names) if name in read.table.column_names
    )
    labels = read.table.drop_columns([payload]) if form != "texts" else read.table
    kinds = {name: kind for name, kind in options.kinds.items() if name in labels.column_names}
    plain = ReadOptions(missing=options.missing, limits=options.limits, kinds=kinds)
    if labels.num_columns == 0:
        labels = pa.table({FILE: [str(row) for row in range(read.table.num_rows)]})
    report = dict(ingest(labels, work, plain, isolate=False))
    table, schema = open_table(work)
    if form != "texts":
        table, schema = _with_payload(table, schema, payload, read.table.column(payload))
        np.save(folder / KEYS, payload_keys(table.column(payload)), allow_pickle=False)
    write_table(folder, table, schema)
    write_quarantine(folder, read.bad)
    _clear(work)
    report |= {
        "source": source.name,
        "format": form,
        "rows": schema.rows,
        "columns": len(schema.columns),
        "quarantined": len(read.bad),
        "quarantine_reasons": _reasons(read.bad),
    }
    if payload == SERIES:
        report["series"] = _sizes(read.table.column(payload))
        if form == "long" and how.window and how.key:
            report["series"]["windows_of"] = how.key
    if read.bad:
        report["warnings"] = [
            *report["warnings"],
            f"{len(read.bad):,} samples were set aside (quarantine.parquet): {read.bad[0]['_reason']}",
        ]
    (folder / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    return report


def _read(
    form: Form, source: Path, work: Path, options: ReadOptions, how: SampleReading, isolate: bool
) -> ReadSamples:
    if form == "images":
        return read_image_folder(source, skip=how.skip)
    if form == "image_bytes":
        return read_image_bytes(source, image_bytes_column(source))
    if form == "sounds":
        return read_wav_folder(source)
    if form == "texts":
        return read_text_folder(source, skip=how.skip)
    if form == "ts":
        return _read_ts(source)
    if form == "coco":
        table = read_coco(source)
        return read_listed_images(table, FILE, how.files or source.parent)
    ingest(str(source), work, options, isolate=isolate)
    table, schema = open_table(work)
    if form == "listed":
        if how.files is None:
            raise AssertionError("listed images have files")
        return read_listed_images(table, how.file_column or _file_column(table, schema, ENDINGS), how.files)
    if form == "listed_sounds":
        if how.files is None:
            raise AssertionError("listed sounds have files")
        return read_listed_sounds(table, how.file_column or _file_column(table, schema, (".wav",)), how.files)
    values = _named_values(how.values, table.column_names) or tuple(
        column.name
        for column in schema.columns
        if column.kind is ColumnKind.NUMBER and column.name not in {how.key, how.time}
    )
    for name in (*values, *(item for item in (how.key, how.time) if item)):
        _ = schema[name]
    if form == "wide":
        return read_wide(table, values)
    if how.time is None:
        raise DataError(
            "A long table of series needs the column that orders its rows.",
            code="MW1174",
            where=source.name,
            hint="reading: {series_key: COLUMN, series_time: COLUMN}",
        )
    if how.key is None:
        table = table.append_column("series_name", pa.array([source.stem] * table.num_rows))
    return read_long(table, how.key or "series_name", how.time, values, window=how.window, stride=how.stride)


def _named_values(names: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that names or patterns (``t*``) stand for, those of a pattern in the order of the table."""
    found: list[str] = []
    for name in names:
        fit = [column for column in columns if fnmatchcase(column, name)] if name not in columns else [name]
        if not fit:
            raise DataError(
                f"No column is called '{name}'.{close_matches(name, columns)}",
                code="MW1225",
                hint="reading: {series_values: [COLUMN, ...]}; 't*' stands for all that begin with t",
            )
        found += [column for column in fit if column not in found]
    return tuple(found)


def _read_ts(source: Path) -> ReadSamples:
    """Read one file, or the two files ``NAME_TRAIN.ts`` and ``NAME_TEST.ts`` of a folder as two parts."""
    if source.is_file():
        return read_ts(source)
    files = sorted(source.glob("*.ts"))
    parts = [part_of(item.stem.rpartition("_")[2]) for item in files]
    if len(files) != 2 or None in parts or len(set(parts)) != 2:
        raise DataError(
            f"The folder '{source.name}' holds {len(files)} .ts files that are not one TRAIN and one TEST file.",
            code="MW1175",
            where=source.name,
            hint="give one file, and the other one as test data",
        )
    read = [read_ts(item) for item in files]
    tables = [
        item.table.append_column("part", pa.array([part] * item.table.num_rows, pa.string()))
        for item, part in zip(read, parts, strict=True)
    ]
    return ReadSamples(pa.concat_tables(tables), [bad for item in read for bad in item.bad])


def read_text_folder(source: Path, *, skip: Sequence[str] = ()) -> ReadSamples:
    """Read text files whose class is the name of their folder (``[part/]class/file.txt``), from a folder or a zip file.

    Returns:
        Columns ``text``, ``file``, ``label`` and, where the top folders are named so, ``part``.

    Raises:
        DataError: There is no text file.
    """
    texts, names, bad = [], [], []
    with open_files(source) as files:
        for record, name in enumerate(item for item in files.names if item.lower().endswith(".txt")):
            if any(text in name for text in skip):
                continue
            data = files.read(name)
            if len(data) > MAX_TEXT_BYTES:
                bad.append({"_record": record, "_reason": f"{len(data):,} bytes", "_text": name})
                continue
            texts.append(data.decode("utf-8", "replace"))
            names.append(name)
    if not texts:
        raise DataError(f"'{source.name}' holds no text file.", code="MW1166", where=source.name)
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    parts = [next((found for part in path if (found := part_of(part))), None) for path in folders]
    columns: dict[str, Any] = {
        "text": texts,
        FILE: names,
        LABEL: [path[-1] if path else None for path in folders],
    }
    if all(parts) and len(set(parts)) > 1:
        columns[PARTS] = parts
    return ReadSamples(pa.table(columns), bad)


def join_samples(main: Path, test: Path, folder: Path) -> Joined:
    """Write ingested training samples with ingested test samples behind them to ``folder``, and their keys.

    Raises:
        DataError: The test part lacks a column, or its samples are of another kind.
    """
    (table, schema), (other, other_schema) = open_table(main), open_table(test)
    payload = next(column for column in schema.columns if column.kind in SAMPLE_KINDS)
    if payload.name not in other_schema or other_schema[payload.name].kind is not payload.kind:
        raise DataError(
            f"The test part holds no {payload.kind.value} samples.", code="MW1193", where=test.name
        )
    rest = Schema(columns=tuple(item for item in schema.columns if item is not payload), rows=schema.rows)
    joined = join_test_table(table.drop_columns([payload.name]), rest, other.drop_columns([payload.name]))
    values = pa.chunked_array([*table.column(payload.name).chunks, *other.column(payload.name).chunks])
    whole, described = _with_payload(joined.table, joined.schema, payload.name, values)
    write_table(folder, whole, described)
    keys = [np.load(part / KEYS, allow_pickle=False) for part in (main, test)]
    np.save(folder / KEYS, np.concatenate(keys), allow_pickle=False)
    return replace(joined, table=whole, schema=described)


def _with_payload(
    table: pa.Table, schema: Schema, name: str, values: pa.ChunkedArray
) -> tuple[pa.Table, Schema]:
    image = name == IMAGE
    column = Column(
        name=name,
        kind=ColumnKind.IMAGE if image else ColumnKind.SERIES,
        distinct=table.num_rows,
        reason="encoded images" if image else "values in order of time",
    )
    whole = table.add_column(0, name, values)
    return whole, Schema(columns=(column, *schema.columns), rows=table.num_rows)


def _file_column(table: pa.Table, schema: Schema, endings: tuple[str, ...]) -> str:
    found = []
    for column in schema.columns:
        cells = table.column(column.name).slice(0, 200).drop_null().to_pylist()
        if cells and all(isinstance(cell, str) and cell.lower().endswith(endings) for cell in cells):
            found.append(column.name)
    if len(found) == 1:
        return found[0]
    files = "wav" if endings == (".wav",) else "image"
    what = "No column" if not found else f"{len(found)} columns ({', '.join(found[:3])})"
    raise DataError(
        f"{what} of the table name {files} files.{close_matches('file', schema.names)}",
        code="MW1163",
        hint="say which column does: file_column: COLUMN (--file-column COLUMN)",
    )


def _sizes(column: pa.ChunkedArray) -> dict[str, Any]:
    """Return values of the longest series and the most channels."""
    values = pc.list_value_length(pc.list_flatten(column.combine_chunks()))
    return {
        "values": int(pc.max(values).as_py() or 0),
        "channels": int(pc.max(pc.list_value_length(column)).as_py() or 0),
    }


def _reasons(bad: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in bad:
        found[row["_reason"]] = found.get(row["_reason"], 0) + 1
    return found


def _clear(work: Path) -> None:
    import shutil

    shutil.rmtree(work)

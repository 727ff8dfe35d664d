"""Reading Parquet, Arrow and Excel files into the sink, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelworks.core.errors import DataError, LimitError, MissingExtra
from modelworks.data.options import ReadOptions
from modelworks.data.raw import RawSink

BATCH_ROWS = 65_536


def read_parquet(path: Path, name: str, options: ReadOptions, sink: RawSink) -> dict[str, Any]:
    """Read a Parquet file by row groups.

    Raises:
        DataError: The file is damaged.
        LimitError: It says of itself that it is too large.
    """
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, "Parquet", error) from None
    meta = file.metadata
    unpacked = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
    _check_size(meta.num_rows, unpacked, name, options)
    wanted = set(options.columns) if options.columns is not None else None
    names = None if wanted is None else [name for name in file.schema_arrow.names if name in wanted]
    try:
        _write(file.schema_arrow, file.iter_batches(BATCH_ROWS, columns=names), options, sink)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, "Parquet", error) from None
    return {"row_groups": meta.num_row_groups}


def read_arrow(path: Path, name: str, options: ReadOptions, sink: RawSink) -> dict[str, Any]:
    """Read an Arrow IPC file or stream (Feather version 2 is one)."""
    try:
        with pa.OSFile(str(path), "rb") as source:
            if source.read(6) == b"ARROW1":
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(index) for index in range(file.num_record_batches))
                _write(file.schema, batches, options, sink)
            else:
                source.seek(0)
                stream = pa.ipc.open_stream(source)
                _write(stream.schema, stream, options, sink)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, "Arrow", error) from None
    return {}


def _check_size(rows: int, unpacked: int, name: str, options: ReadOptions) -> None:
    if rows > options.limits.rows:
        raise LimitError(
            f"'{name}' has {rows:,} rows; at most {options.limits.rows:,} are read.",
            code="MW2013",
            where=name,
        )
    if unpacked > options.limits.decompressed_bytes:
        raise LimitError(
            f"'{name}' unpacks to {unpacked:,} bytes; at most {options.limits.decompressed_bytes:,} are read.",
            code="MW2010",
            where=name,
        )


def _write(layout: pa.Schema, batches: Iterable[pa.RecordBatch], options: ReadOptions, sink: RawSink) -> None:
    wanted = set(options.columns) if options.columns is not None else set(layout.names)
    kept = [index for index, name in enumerate(layout.names) if name in wanted]
    names = [layout.names[index] for index in kept]
    parts = (batch if batch.num_columns == len(kept) else batch.select(kept) for batch in batches)
    write_batches(pa.schema([layout.field(index) for index in kept]), names, parts, sink)


def write_batches(
    layout: pa.Schema, names: list[str], batches: Iterable[pa.RecordBatch], sink: RawSink
) -> None:
    """Write batches with their columns brought to the few plain types; names are numbered in the file."""
    plain = [_plain_type(field.type) for field in layout]
    schema = pa.schema([(str(position), kind) for position, kind in enumerate(plain)])
    sink.open(schema, names)
    for batch in batches:
        columns = [_plain(array, kind) for array, kind in zip(batch.columns, plain, strict=True)]
        sink.write(pa.record_batch(columns, schema=schema))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type a column is kept as: string, int64, float64, bool or timestamp[us]."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return pa.bool_()
    if pa.types.is_integer(kind):
        return pa.float64() if kind == pa.uint64() else pa.int64()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_date(kind):
        return pa.timestamp("us")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    return pa.string()


def _plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type == kind:
        return array
    if pa.types.is_nested(array.type) or pa.types.is_binary(array.type) or pa.types.is_time(array.type):
        return pa.array([None if cell is None else _cell_text(cell) for cell in array.to_pylist()], kind)
    return array.cast(kind, safe=False)


def _cell_text(cell: Any) -> str:
    import json

    if isinstance(cell, bytes):
        return cell.decode("utf-8", "backslashreplace")
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def _damaged(name: str, kind: str, error: Exception) -> DataError:
    line = (str(error).splitlines() or [""])[0][:200]
    return DataError(
        f"The {kind} file '{name}' cannot be read: {line}",
        code="MW1122",
        where=name,
        hint="write the file again",
    )


def read_excel(path: Path, name: str, options: ReadOptions, sink: RawSink) -> dict[str, Any]:
    """Read one sheet of an Excel or OpenDocument workbook.

    Raises:
        MissingExtra: The extra ``excel`` is not installed.
        DataError: The workbook is damaged or has no such sheet.
    """
    try:
        import python_calamine
    except ImportError:
        raise MissingExtra.named("Reading Excel files", "excel") from None
    try:
        book = python_calamine.CalamineWorkbook.from_path(str(path))
        sheet = options.sheet or _first_full_sheet(book)
        if sheet not in book.sheet_names:
            raise DataError(
                f"'{name}' has no sheet '{sheet}'.",
                code="MW1128",
                where=name,
                hint="sheets: " + ", ".join(book.sheet_names),
            )
        rows = book.get_sheet_by_name(sheet).to_python(skip_empty_area=True)
    except python_calamine.CalamineError as error:
        raise _damaged(name, "Excel", error) from None
    _write_cells(rows, name, options, sink)
    return {"sheet": sheet, "sheets": list(book.sheet_names)}


def _first_full_sheet(book: Any) -> str:
    for sheet in book.sheet_names:
        if book.get_sheet_by_name(sheet).height > 1:
            return str(sheet)
    return str(book.sheet_names[0])


def _write_cells(rows: list[list[Any]], name: str, options: ReadOptions, sink: RawSink) -> None:
    from modelworks.data.header import find_header

    rows = [row for row in rows if any(cell != "" for cell in row)]
    while len(rows) > 2 and sum(cell != "" for cell in rows[0]) == 1 and len(rows[0]) > 2:
        sink.bad_row(0, "line before the table", str(rows[0][0]))
        rows = rows[1:]
    if not rows:
        raise DataError(f"'{name}' has no cell.", code="MW1120", where=name)
    width = len(rows[0])
    texts = [[_excel_text(cell) or "" for cell in row] for row in rows[:120]]
    header = options.header
    if header is None:
        header = find_header(texts, width, set(options.missing))[0]
    names = list(options.names or (texts[0] if header else [f"c{index}" for index in range(width)]))
    body = rows[1:] if header else rows
    missing = set(options.missing)
    arrays = [_excel_column([row[index] for row in body], missing) for index in range(width)]
    layout = pa.schema([(str(index), array.type) for index, array in enumerate(arrays)])
    sink.open(layout, names)
    sink.write(pa.record_batch(arrays, schema=layout))


def _excel_column(cells: list[Any], missing: set[str]) -> pa.Array:
    kinds = {type(cell) for cell in cells if cell != ""}
    if kinds and kinds <= {float, int}:
        numbers = [None if cell == "" else float(cell) for cell in cells]
        if all(number is None or (number.is_integer() and abs(number) < 2**53) for number in numbers):
            return pa.array([None if number is None else int(number) for number in numbers], pa.int64())
        return pa.array(numbers, pa.float64())
    if kinds == {bool}:
        return pa.array([None if cell == "" else cell for cell in cells], pa.bool_())
    if kinds and kinds <= {date, datetime}:
        return pa.array([None if cell == "" else _moment(cell) for cell in cells], pa.timestamp("us"))
    texts = [_excel_text(cell) for cell in cells]
    return pa.array([None if text is None or text in missing else text for text in texts], pa.string())


def _moment(cell: date) -> datetime:
    return cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)


def _excel_text(cell: Any) -> str | None:
    if cell == "":
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, (datetime, date, time)):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return str(cell.total_seconds())
    return str(cell)

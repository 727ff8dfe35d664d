"""From the bytes of a file to ``raw.arrow``: runs in the small limited process, or in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelworks.core.errors import DataError, LimitError, ModelworksError
from modelworks.data.options import ReadOptions
from modelworks.data.raw import RawSink
from modelworks.data.streams import file_format, open_bytes


def parse_file(path: Path, name: str, options: ReadOptions, folder: Path) -> dict[str, Any]:
    """Parse a file into ``folder/raw.arrow``.

    Args:
        path: The local file.
        name: What to call it in messages.
        options: What the user has set.
        folder: Folder for ``raw.arrow``.

    Returns:
        ``format``, ``compression``, ``names``, ``rows``, ``bad_rows``, ``bad_count`` and what the format's
        reader found.

    Raises:
        DataError: The bytes cannot be read.
        LimitError: A limit was reached.
    """
    try:
        return _parse(path, name, options, folder)
    except ModelworksError:
        raise
    except MemoryError:
        raise LimitError(
            f"Reading '{name}' needs more than {options.limits.memory_mb:,} MB of memory.",
            code="MW2017",
            where=name,
            hint="take a sample, or raise the limit 'memory_mb'",
        ) from None
    except (ValueError, OSError, RecursionError, ArithmeticError, LookupError, NotImplementedError) as error:
        line = (str(error).splitlines() or [""])[0][:200]
        raise DataError(f"'{name}' cannot be read: {line}", code="MW1130", where=name) from error


def _parse(path: Path, name: str, options: ReadOptions, folder: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > options.limits.file_bytes:
        raise LimitError(
            f"'{name}' has {size:,} bytes; at most {options.limits.file_bytes:,} are read.",
            code="MW2010",
            where=name,
            hint="take a sample, or raise the limit 'file_bytes'",
        )
    form, compression = file_format(path, name)
    form = options.format or form
    sink = RawSink(folder, options.limits, name)
    try:
        found = _read(form, compression, path, name, options, sink)
    finally:
        sink.close()
    return {
        "format": form,
        "compression": compression,
        "names": sink.names,
        "rows": sink.rows,
        "bad_rows": sink.bad_rows,
        "bad_count": sink.bad_count,
        **found,
    }


def _read(
    form: str, compression: str, path: Path, name: str, options: ReadOptions, sink: RawSink
) -> dict[str, Any]:
    if form in {"parquet", "arrow", "excel"}:
        if compression:
            raise DataError(
                f"'{name}' is compressed twice.", code="MW1129", where=name, hint="unpack it first"
            )
        from modelworks.data import columnar

        if form == "parquet":
            return columnar.read_parquet(path, name, options, sink)
        if form == "arrow":
            return columnar.read_arrow(path, name, options, sink)
        return columnar.read_excel(path, name, options, sink)
    reader = open_bytes(path, name, compression, options.limits)
    try:
        if form == "json":
            from modelworks.data.json_rows import read_json

            return read_json(reader, name, options, sink)
        from modelworks.data.delimited import DelimitedReader

        return DelimitedReader(reader, name, options, sink).read()
    finally:
        reader.close()

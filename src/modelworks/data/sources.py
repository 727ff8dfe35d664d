"""Telling what a source is: a local file, an address, a database or an object in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from modelworks.core.errors import DataError, close_matches
from modelworks.data.columnar import write_batches
from modelworks.data.options import ReadOptions
from modelworks.data.raw import RawSink

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:(//|:)")
_INDEX = re.compile(r"^__index_level_\d+__$")
_DATABASES = re.compile(
    r"^(postgresql|postgres|sqlite|mysql|mariadb|oracle|mssql|duckdb|snowflake)(\+\w+)?://"
)


@dataclass(frozen=True)
class LocalFile:
    """A local file and what to call it in messages."""

    path: Path
    name: str


def is_database(source: Any, options: ReadOptions) -> bool:
    """Say whether a source is a connection URL."""
    return isinstance(source, str) and (
        _DATABASES.match(source) is not None or bool(options.query and "://" in source)
    )


def is_url(source: Any) -> bool:
    """Say whether a source is an address elsewhere."""
    return (
        isinstance(source, str)
        and _URL.match(source) is not None
        and not source.lower().startswith("file://")
    )


def local_file(source: str | Path, options: ReadOptions) -> LocalFile:
    """Return a local file after checking that it exists, is a file and lies in the allowed folders.

    Links are followed first, so that a link inside a root to a file outside is refused.

    Raises:
        DataError: It is absent, a folder or a device, or outside ``options.roots``.
    """
    text = str(source)
    if text.lower().startswith("file://"):
        text = unquote(urlsplit(text).path)
    path = Path(text).expanduser()
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        real = path.absolute()
        _check_roots(path, real, options)
        near = (
            [entry.name for entry in path.parent.iterdir()]
            if path.parent.is_dir() and not options.roots
            else []
        )
        raise DataError(
            f"There is no file '{path.name}'.{close_matches(path.name, near)}",
            code="MW1111",
            where=str(source),
        ) from None
    _check_roots(path, real, options)
    if not real.is_file():
        raise DataError(
            f"'{path.name}' is a folder that holds no images, sounds, texts or series."
            if path.is_dir()
            else f"'{path.name}' is not a file.",
            code="MW1112",
            where=str(source),
            hint=_one_of(path),
        )
    return LocalFile(real, path.name)


def _one_of(folder: Path) -> str:
    """Return advice that names a few of the files that could be meant."""
    if not folder.is_dir():
        return "give one file"
    held = sorted(item.name for item in folder.iterdir() if item.is_file() and not item.name.startswith("."))
    some = ", ".join(f"'{folder.name}/{name}'" for name in held[:4]) + (", ..." if len(held) > 4 else "")
    return f"give one file: {some}" if held else "it is empty: give one file"


def _check_roots(path: Path, real: Path, options: ReadOptions) -> None:
    if options.roots and not any(real.is_relative_to(Path(root).resolve()) for root in options.roots):
        raise DataError(
            f"The file '{path.name}' lies outside the folders that may be read.",
            code="MW1113",
            hint="move it into one of the configured data folders",
        )


def write_object(source: Any, options: ReadOptions, folder: Path) -> dict[str, Any]:
    """Write a table in memory (Arrow, pandas, polars, a dict of columns) as ``folder/raw.arrow``.

    Raises:
        DataError: The object is no table.
    """
    table = _as_arrow(source)
    names = ["index" if _INDEX.match(name) else str(name) for name in table.column_names]
    sink = RawSink(folder, options.limits, type(source).__name__)
    try:
        write_batches(table.schema, names, table.to_batches(), sink)
    finally:
        sink.close()
    return {
        "format": "object", "compression": "", "names": sink.names, "rows": sink.rows, "bad_rows": [], "bad_count": 0
    }  # fmt: skip


def _from_stream(source: Any) -> pa.Table:
    """Take a data frame over; where a column of it mixes types, column by column with that one as text."""
    try:
        return pa.table(source)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        if not hasattr(source, "columns"):
            raise
    names = list(source.columns)
    return pa.table([_column(source[name]) for name in names], names=[str(name) for name in names])


def _column(cells: Any) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        texts = ["" if cell is None else str(cell) for cell in cells.tolist()]
        return pa.array(texts, pa.string())


def _as_arrow(source: Any) -> pa.Table:
    try:
        if isinstance(source, pa.Table):
            return source
        if isinstance(source, pa.RecordBatch):
            return pa.Table.from_batches([source])
        if hasattr(source, "__arrow_c_stream__"):
            return _from_stream(source)
        if hasattr(source, "to_arrow"):
            return pa.table(source.to_arrow())
        if hasattr(source, "__dataframe__"):
            from pyarrow.interchange import from_dataframe

            return from_dataframe(source)
        if isinstance(source, dict):
            return pa.table(source)
        if isinstance(source, list) and source and isinstance(source[0], dict):
            return pa.Table.from_pylist(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        line = (str(error).splitlines() or [""])[0][:200]
        raise DataError(f"The object cannot be read as a table: {line}", code="MW1114") from error
    raise DataError(
        f"An object of type '{type(source).__name__}' is not a table.",
        code="MW1114",
        hint="give a path, a URL, or a pandas, polars or Arrow table",
    )

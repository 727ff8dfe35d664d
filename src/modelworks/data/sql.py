"""Reading the answer of one SQL query over a connection URL."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelworks.core.errors import DataError, LimitError, MissingExtra
from modelworks.data.columnar import write_batches
from modelworks.data.options import ReadOptions
from modelworks.data.raw import RawSink
from modelworks.data.sources import local_file

_ROWS = 20_000
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def read_sql(url: str, options: ReadOptions, folder: Path) -> dict[str, Any]:
    """Run ``options.query`` and write its rows as ``folder/raw.arrow``; nothing is ever written to the database.

    Raises:
        DataError: No query was given, the database cannot be reached or refuses the query.
        LimitError: The answer is too large.
        MissingExtra: The database's driver is not installed.
    """
    import sqlalchemy

    if not options.query:
        raise DataError(
            "A connection URL needs a query.", code="MW1143", hint="--query 'SELECT ... FROM ...'"
        )
    engine = _engine(url, options)
    address = engine.url
    where = address.render_as_string(hide_password=True)
    sink = RawSink(folder, options.limits, where)
    try:
        with engine.connect() as connection:
            connection = _read_only(connection)
            answer = connection.execution_options(stream_results=True, max_row_buffer=_ROWS).execute(
                sqlalchemy.text(options.query)
            )
            if not answer.returns_rows:
                raise DataError("The query returns no rows; only SELECT is read.", code="MW1143", where=where)
            _write_rows(list(answer.keys()), answer.partitions(_ROWS), options, sink, where)
            connection.rollback()
    except sqlalchemy.exc.SQLAlchemyError as error:
        line = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0][:300]
        raise DataError(f"The database refused: {line}", code="MW1144", where=where) from None
    finally:
        sink.close()
        engine.dispose()
    return {
        "format": "sql", "compression": "", "names": sink.names, "rows": sink.rows, "bad_rows": [], "bad_count": 0,
        "source": where,
    }  # fmt: skip


def _engine(url: str, options: ReadOptions) -> Any:
    import sqlalchemy

    try:
        address = sqlalchemy.engine.make_url(url)
        address = address.set(drivername=_DRIVERS.get(address.drivername, address.drivername))
        if address.get_backend_name() == "sqlite" and address.database not in {None, "", ":memory:"}:
            local_file(address.database or "", options)
        return sqlalchemy.create_engine(address, poolclass=sqlalchemy.pool.NullPool)
    except ImportError:
        name = url.split(":", 1)[0]
        extra = "postgres" if name.startswith("postgres") else name
        raise MissingExtra.named(f"Reading {name} databases", extra) from None
    except sqlalchemy.exc.ArgumentError:
        raise DataError(
            "The connection URL cannot be read.", code="MW1143", hint="dialect://user:password@host/db"
        ) from None


def _read_only(connection: Any) -> Any:
    """Return the connection in a transaction that cannot write, where the database has such."""
    import sqlalchemy

    backend = connection.engine.url.get_backend_name()
    if backend == "postgresql":
        return connection.execution_options(postgresql_readonly=True)
    if backend == "sqlite":
        connection.execute(sqlalchemy.text("PRAGMA query_only = ON"))
    return connection


def _write_rows(
    names: list[str], partitions: Iterator[Any], options: ReadOptions, sink: RawSink, where: str
) -> None:
    columns: list[list[Any]] = [[] for _ in names]
    total = 0
    for rows in partitions:
        total += len(rows)
        if total > options.limits.rows:
            raise LimitError(
                f"The query returns more than {options.limits.rows:,} rows.", code="MW2013", where=where
            )
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(cells)
    arrays = [_array(cells) for cells in columns]
    table = pa.table(arrays, names=[str(index) for index in range(len(arrays))])
    write_batches(table.schema, names, table.to_batches(), sink)


def _array(cells: list[Any]) -> pa.Array:
    kinds = {type(cell) for cell in cells} - {type(None)}
    if not kinds:
        return pa.nulls(len(cells), pa.string())
    if kinds <= {int, float, decimal.Decimal} and kinds != {int}:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    if len(kinds) == 1 and kinds <= {int, bool, datetime.datetime, datetime.date}:
        try:
            return pa.array(cells)
        except (pa.ArrowInvalid, OverflowError):
            return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
    return pa.array([None if cell is None else _text(cell) for cell in cells], pa.string())


def _text(cell: Any) -> str:
    return cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)

"""The one door to the database: SQLite in WAL mode or PostgreSQL, with one way to read and one to write."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from modelworks.core.digest import canonical_json
from modelworks.core.errors import DiskFull, MissingExtra, StorageError, UsageError

BUSY_MS = 30_000
TRIES = 4

Result = TypeVar("Result")


class Database:
    """Connections, transactions and bounded retries.

    SQLite runs with ``journal_mode=WAL``, ``foreign_keys=ON``, ``busy_timeout`` and ``BEGIN IMMEDIATE`` for writers
    (a plain BEGIN makes concurrent read-modify-writes fail with "database is locked").

    Args:
        where: Path of an SQLite file, or a database URL (``sqlite:///...``, ``postgresql://...``).

    Raises:
        UsageError: The URL names another kind of database.
        MissingExtra: PostgreSQL without its driver.
        StorageError: The database cannot be opened.
    """

    def __init__(self, where: Path | str) -> None:
        self.url = _url(where)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.file = Path(self.url.database or "") if self.is_sqlite else None
        self.engine = self._engine()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection inside a read transaction.

        Raises:
            StorageError: The database failed.
        """
        with translated_database(str(self.file or self.url)), self.engine.connect() as connection:
            connection.info["immediate"] = False
            with connection.begin():
                yield connection

    def write(self, work: Callable[[Connection], Result], *, durable: bool = True) -> Result:
        """Run ``work`` in one write transaction and commit it.

        ``work`` may run more than once: after a lost connection or an unknown outcome of the commit it is tried
        again, so it must find its own earlier effect and accept it.

        Args:
            work: Function of a connection.
            durable: Wait for the device. Without, a killed process loses nothing, a power cut may lose the last
                moments, and never a part of a transaction.

        Raises:
            StorageError: The database failed, also after retries.
            DiskFull: The disk is full.
        """
        with translated_database(str(self.file or self.url)):
            for attempt in range(1, TRIES + 1):
                try:
                    return self._write_once(work, durable)
                except OperationalError as error:
                    if attempt == TRIES or not _worth_retrying(error):
                        raise
                    # Full jitter, so that writers that failed together do not come back together.
                    time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311
        raise AssertionError("the last try returns or raises")

    def insert(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
        """Insert rows that are not there yet by primary key; what is there stays."""
        if rows:
            connection.execute(self._insertion(table), rows)

    def insert_new(self, connection: Connection, table: Table, row: dict[str, Any]) -> bool:
        """Insert a row if its primary key is not there yet; says whether it was inserted."""
        # RETURNING and not the row count, which PostgreSQL's driver does not give for such a statement.
        statement = self._insertion(table).returning(table.primary_key.columns[0])
        return connection.execute(statement, row).first() is not None

    def _insertion(self, table: Table) -> Any:
        return (sqlite if self.is_sqlite else postgresql).insert(table).on_conflict_do_nothing()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def commit(self, connection: Connection) -> None:
        """Commit; a seam where tests lose the reply of a commit that was done."""
        connection.commit()

    def _write_once(self, work: Callable[[Connection], Result], durable: bool) -> Result:
        with self.engine.connect() as connection:
            connection.info["immediate"] = True
            if self.is_sqlite:
                level = "FULL" if durable else "NORMAL"
                if connection.info.get("level") != level:
                    connection.connection.cursor().execute(f"PRAGMA synchronous={level}")
                    connection.info["level"] = level
            transaction = connection.begin()
            try:
                if not self.is_sqlite and not durable:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
                result = work(connection)
            except BaseException:
                transaction.rollback()
                raise
            self.commit(connection)
            return result

    def _engine(self) -> Engine:
        options: dict[str, Any] = {}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_MS / 1000}
        else:
            options["pool_pre_ping"] = True
        try:
            engine = sqlalchemy.create_engine(
                self.url,
                json_serializer=lambda value: canonical_json(value).decode(),
                json_deserializer=json.loads,
                **options,
            )
        except ModuleNotFoundError:
            raise MissingExtra.named("A PostgreSQL catalog", "postgres") from None
        if self.is_sqlite:
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own implicit BEGIN is switched off: transactions begin in _begin_sqlite only.
    connection.isolation_level = None
    mode = _keep_log(connection)
    if mode != "wal":
        raise sqlite3.OperationalError(
            "it cannot keep a write-ahead log; put MODELWORKS_HOME on a local disk"
        )
    for pragma in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _keep_log(connection: sqlite3.Connection) -> str:
    """Ask for the write-ahead log; returns the mode the file is in.

    While others do the same to a new file SQLite says at once that it is locked: here it waits for nobody by itself.
    """
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            return str(mode)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0, 0.05))  # noqa: S311


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("immediate") else "BEGIN")


@contextmanager
def translated_database(place: str) -> Iterator[None]:
    """Turn database errors into errors of our tree.

    Raises:
        DiskFull: SQLite could not grow its files.
        StorageError: Anything else.
    """
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        text = str(cause).splitlines()[0][:300]
        if "disk is full" in text or "No space left" in text:
            raise DiskFull(
                f"The disk is full: the catalog {place} cannot grow.",
                code="MW4102",
                hint="free some space (mw gc removes what nothing names), then run the same command again",
            ) from error
        raise StorageError(f"The catalog {place} failed: {text}", code="MW4002", hint="mw doctor") from error


def _worth_retrying(error: DBAPIError) -> bool:
    return error.connection_invalidated or "database is locked" in str(error.orig)


def _url(where: Path | str) -> sqlalchemy.URL:
    if isinstance(where, Path) or "://" not in where:
        path = Path(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        return sqlalchemy.URL.create("sqlite", database=str(path))
    try:
        url = sqlalchemy.make_url(where)
    except SQLAlchemyError:
        raise UsageError("The catalog's database URL cannot be read.", code="MW1382") from None
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database:
        return url
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    raise UsageError(
        f"A catalog cannot be kept in '{backend}'.",
        code="MW1383",
        hint="use a path, sqlite:///PATH or postgresql://USER@HOST/NAME",
    )

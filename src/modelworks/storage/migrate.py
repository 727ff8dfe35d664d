"""Brings a database to the newest schema: at once when it is fresh, by migrations with a backup when it is old."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from modelworks.core.errors import StorageError
from modelworks.storage.database import Database
from modelworks.storage.schema import METADATA, REVISION, VERSION

MIGRATIONS = Path(__file__).parent / "migrations"


def prepare(database: Database) -> Path | None:
    """Make the schema current; returns the backup of an SQLite file that was migrated.

    A current schema costs one query; Alembic is imported only for a real migration.

    Raises:
        StorageError: The schema is newer than this program (MW4003), or the file is no catalog (MW4004).
    """
    found = _revision(database)
    if found == REVISION:
        return None
    if found is None:
        database.write(_create)
        found = _revision(database)
        if found == REVISION:
            return None
    if not found or found not in known_revisions():
        raise StorageError(
            f"The catalog {database.file or database.url} has schema '{found}', this program knows up to "
            f"'{REVISION}'.",
            code="MW4003",
            hint="pip install --upgrade modelworks",
        )
    backup = _back_up(database, found)
    database.write(_upgrade)
    return backup


def known_revisions() -> set[str]:
    """Return the revisions this program can migrate from or is at."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}


def _revision(database: Database) -> str | None:
    with database.read() as connection:
        names = set(inspect(connection).get_table_names())
        if VERSION.name in names:
            found = connection.execute(VERSION.select()).scalar()
            return str(found) if found else ""
        if names & set(METADATA.tables):
            raise StorageError(
                f"The database {database.file or database.url} has tables but no schema version; it is no catalog.",
                code="MW4004",
                hint="choose another file",
            )
    return None


def _create(connection: Connection) -> None:
    _wait_for_others(connection)
    METADATA.create_all(connection)
    if connection.execute(VERSION.select()).first() is None:
        connection.execute(VERSION.insert().values(version_num=REVISION))


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    _wait_for_others(connection)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _wait_for_others(connection: Connection) -> None:
    """Let one process at a time change the schema; SQLite's writer is alone already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(4031977)"))


def _back_up(database: Database, revision: str) -> Path | None:
    if database.file is None:
        return None
    target = database.file.with_name(f"{database.file.name}.before-{REVISION}-from-{revision}")
    target.unlink(missing_ok=True)
    source = sqlite3.connect(database.file)
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()
    return target

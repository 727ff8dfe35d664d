"""Names that point to values and remember every version, packages, cross-task memory, and looks at sealed test sets."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from modelworks.core.clock import Clock
from modelworks.core.errors import Conflict, NotFound, UsageError, close_matches
from modelworks.storage.database import Database
from modelworks.storage.schema import LOOKS, MEMORY, NAMES, PACKAGES


@dataclass(frozen=True, kw_only=True)
class NameVersion:
    """One version of a name.

    Attributes:
        space: What sort of name, e.g. ``champion``.
        name: The name.
        version: 1, 2, 3, ... without gaps.
        value: Plain JSON.
        created: Wall-clock seconds since 1970.
    """

    space: str
    name: str
    version: int
    value: Any
    created: float


class Names:
    """A registry with compare-and-set; no version is ever overwritten."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def set(self, space: str, name: str, value: Any, *, expected: int, writer: str | None = None) -> int:
        """Add version ``expected + 1``; returns it.

        Args:
            space: What sort of name.
            name: The name.
            value: Plain JSON.
            expected: Newest version the caller has seen; 0 for a new name.
            writer: Identity of this write; repeating a write with the same identity finds it done.

        Raises:
            Conflict: Another version came first (MW4303); read the newest and decide again.
        """
        mine = writer or uuid.uuid4().hex
        row = {
            "space": space,
            "name": name,
            "version": expected + 1,
            "value": value,
            "writer": mine,
            "created": self._clock.wall(),
        }

        def work(connection: Connection) -> int:
            versions = select(NAMES.c.version, NAMES.c.writer).where(
                NAMES.c.space == space, NAMES.c.name == name
            )
            newest = connection.execute(versions.order_by(NAMES.c.version.desc())).first()
            found = newest.version if newest else 0
            if found == expected and self._database.insert_new(connection, NAMES, row):
                return expected + 1
            done = connection.execute(versions.where(NAMES.c.version == expected + 1)).first()
            if done is not None and done.writer == mine:
                return expected + 1
            raise Conflict(
                f"'{name}' in '{space}' is at version {max(found, expected + bool(done))}, "
                f"this write expected {expected}.",
                code="MW4303",
                hint="read it again and repeat the write on the newest version",
            )

        return self._database.write(work)

    def get(self, space: str, name: str, version: int | None = None) -> NameVersion:
        """Return the newest version, or the one asked for.

        Raises:
            NotFound: There is none; names close matches.
        """
        query = select(NAMES).where(NAMES.c.space == space, NAMES.c.name == name)
        if version is not None:
            query = query.where(NAMES.c.version == version)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(NAMES.c.version.desc())).first()
        if row is None:
            wanted = name if version is None else f"{name}@{version}"
            known = [item.name for item in self.newest(space)]
            raise NotFound(f"There is no '{wanted}' in '{space}'.{close_matches(name, known)}", code="MW4204")
        return _name(row)

    def newest(self, space: str) -> list[NameVersion]:
        """Return the newest version of every name of a space, by name."""
        newest = (
            select(NAMES.c.name, func.max(NAMES.c.version).label("version"))
            .where(NAMES.c.space == space)
            .group_by(NAMES.c.name)
            .subquery()
        )
        query = (
            select(NAMES)
            .join(newest, (NAMES.c.name == newest.c.name) & (NAMES.c.version == newest.c.version))
            .where(NAMES.c.space == space)
            .order_by(NAMES.c.name)
        )
        with self._database.read() as connection:
            return [_name(row) for row in connection.execute(query)]

    def values(self) -> list[Any]:
        """Return the values of all versions of all names."""
        with self._database.read() as connection:
            return [row.value for row in connection.execute(select(NAMES.c.value))]

    def history(self, space: str, name: str) -> list[NameVersion]:
        """Return all versions of a name, oldest first."""
        query = select(NAMES).where(NAMES.c.space == space, NAMES.c.name == name).order_by(NAMES.c.version)
        with self._database.read() as connection:
            return [_name(row) for row in connection.execute(query)]


@dataclass(frozen=True, kw_only=True)
class PackageRow:
    """A package that was made.

    Attributes:
        digest: Tree digest of its files.
        name: Task name.
        run: Run that made it.
        label: Order line.
        verdict: How the line ended.
        manifest: Plain JSON.
        created: Wall-clock seconds since 1970; set when added.
    """

    digest: str
    name: str
    run: str
    label: str
    verdict: str
    manifest: dict[str, Any]
    created: float = 0.0


class Packages:
    """The packages this installation made."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, package: PackageRow) -> None:
        """Record a package; the same digest is recorded once."""
        row = asdict(package) | {"created": self._clock.wall()}
        self._database.write(lambda connection: self._database.insert(connection, PACKAGES, [row]))

    def get(self, digest: str) -> PackageRow:
        """Return the package whose digest begins with ``digest``.

        Raises:
            NotFound: There is none.
            UsageError: There are several.
        """
        query = select(PACKAGES).where(PACKAGES.c.digest.startswith(digest, autoescape=True)).limit(2)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            raise NotFound(f"There is no package {digest}.", code="MW4205", hint="mw package list")
        if len(rows) > 1:
            raise UsageError(f"Several packages begin with {digest}; give more digits.", code="MW1386")
        return _package(rows[0])

    def find(self, *, run: str | None = None, name: str | None = None) -> list[PackageRow]:
        """Return packages, newest first."""
        query = select(PACKAGES).order_by(PACKAGES.c.created.desc(), PACKAGES.c.digest)
        if run is not None:
            query = query.where(PACKAGES.c.run == run)
        if name is not None:
            query = query.where(PACKAGES.c.name == name)
        with self._database.read() as connection:
            return [_package(row) for row in connection.execute(query)]

    def digests(self) -> set[str]:
        """Return the digests of all packages."""
        with self._database.read() as connection:
            return {row.digest for row in connection.execute(select(PACKAGES.c.digest))}

    def remove(self, digests: Sequence[str]) -> None:
        """Forget packages, so that the sweep frees their files."""
        chosen = list(digests)
        self._database.write(
            lambda connection: connection.execute(delete(PACKAGES).where(PACKAGES.c.digest.in_(chosen)))
        )


class Memory:
    """What earlier tasks taught: small JSON rows, open to inspection."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def remember(self, space: str, key: str, value: Any) -> None:
        """Keep a value under a key; a later value of the same key replaces it."""
        row = {"space": space, "key": key, "value": value, "created": self._clock.wall()}

        def work(connection: Connection) -> None:
            connection.execute(delete(MEMORY).where(MEMORY.c.space == space, MEMORY.c.key == key))
            connection.execute(MEMORY.insert().values(**row))

        self._database.write(work)

    def recall(self, space: str) -> dict[str, Any]:
        """Return all values of a space by key, oldest first."""
        query = select(MEMORY).where(MEMORY.c.space == space).order_by(MEMORY.c.created, MEMORY.c.key)
        with self._database.read() as connection:
            return {row.key: row.value for row in connection.execute(query)}

    def forget(self, space: str, key: str | None = None) -> int:
        """Remove one value or a whole space; returns how many were removed."""
        statement = delete(MEMORY).where(MEMORY.c.space == space)
        if key is not None:
            statement = statement.where(MEMORY.c.key == key)
        return self._database.write(lambda connection: connection.execute(statement).rowcount)


class TestLooks:
    """How often each sealed test set was looked at."""

    __test__ = False

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def look(self, test: str, look_id: str, *, label: str = "", purpose: str = "") -> int:
        """Record a look before it happens; returns its number, counted from 1, and the same number ever after.

        Args:
            test: Digest of the sealed test rows.
            look_id: Identity of the look (e.g. the content key of the evaluation); repeating it counts once.
            label: Task that looks.
            purpose: Why, e.g. ``evaluate``.
        """
        row = {"id": look_id, "test": test, "label": label, "purpose": purpose, "created": self._clock.wall()}

        def work(connection: Connection) -> int:
            self._database.insert(connection, LOOKS, [row])
            ranked = select(LOOKS.c.id).where(LOOKS.c.test == test).order_by(LOOKS.c.created, LOOKS.c.id)
            return list(connection.execute(ranked).scalars()).index(look_id) + 1

        return self._database.write(work)

    def count(self, test: str) -> int:
        """Return how often a sealed test set was looked at."""
        with self._database.read() as connection:
            query = select(func.count()).select_from(LOOKS).where(LOOKS.c.test == test)
            return int(connection.execute(query).scalar_one())


def _name(row: Row[Any]) -> NameVersion:
    return NameVersion(
        space=row.space, name=row.name, version=row.version, value=row.value, created=row.created
    )


def _package(row: Row[Any]) -> PackageRow:
    return PackageRow(
        digest=row.digest,
        name=row.name,
        run=row.run,
        label=row.label,
        verdict=row.verdict,
        manifest=row.manifest,
        created=row.created,
    )

"""The catalog: everything that is recorded, in one database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from modelworks.core.clock import Clock, SystemClock
from modelworks.storage.database import Database
from modelworks.storage.ledger import Ledger
from modelworks.storage.migrate import prepare
from modelworks.storage.registry import Memory, Names, Packages, TestLooks
from modelworks.storage.runs import Runs


class Catalog:
    """The catalog, by subject.

    Attributes:
        runs: Runs with leases.
        ledger: Step results, attempts, uses, human seconds.
        names: Registry with compare-and-set.
        packages: Packages that were made.
        memory: What earlier tasks taught.
        looks: Looks at sealed test sets.
        backup: Copy of the SQLite file made before a migration, if there was one.

    Args:
        where: Path of an SQLite file, a database URL, or an open database.
        clock: Source of time.

    Raises:
        StorageError: It cannot be opened, or its schema is newer than this program.
    """

    def __init__(self, where: Path | str | Database, *, clock: Clock | None = None) -> None:
        time = clock or SystemClock()
        self.database = where if isinstance(where, Database) else Database(where)
        self.backup = prepare(self.database)
        self.runs = Runs(self.database, time)
        self.ledger = Ledger(self.database, time)
        self.names = Names(self.database, time)
        self.packages = Packages(self.database, time)
        self.memory = Memory(self.database, time)
        self.looks = TestLooks(self.database, time)

    def live_digests(self) -> set[str]:
        """Return every digest that a published result, a package or a name mentions, for ``sweep``."""
        live = self.ledger.live_digests() | self.packages.digests()
        for value in self.names.values():
            live |= _digests_in(value)
        return live

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _digests_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value} if re.fullmatch(r"[0-9a-f]{64}", value) else set()
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return {digest for item in value for digest in _digests_in(item)}
    return set()

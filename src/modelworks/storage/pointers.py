"""Named JSON values beside the artifacts: published durably, and read back from the version before if damaged."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelworks.core.digest import canonical_json, digest_json
from modelworks.core.errors import NotFound, TrustError, UsageError, close_matches
from modelworks.storage.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Pointer:
    """A named value.

    Attributes:
        value: Plain JSON.
        damage: Why the newest version could not be read and this is the one before; empty if all is well.
    """

    value: Any
    damage: str = ""


class Pointers:
    """Values under names in ``names/`` of a store; a name never points to partial bytes.

    One process at a time may publish a name; where several compete, use ``Catalog.names``.

    Args:
        store: Whose folder and file system to use.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / "names"

    def publish(self, name: str, value: Any) -> None:
        """Let ``name`` point to a value from now on; the version before is kept beside it.

        Raises:
            UsageError: The name has other letters than ``A-Z a-z 0-9 . _ -``.
            DiskFull, StorageError: It could not be written; the name still points to the version before.
        """
        target = self._path(name)
        fresh = self._written(canonical_json({"value": value, "digest": digest_json(value)}))
        disk = self._store.disk
        if target.exists() and not _damage(target):
            disk.rename(self._written(target.read_bytes()), self._previous(name))
        disk.rename(fresh, target)
        disk.fsync_dir(self._folder)

    def read(self, name: str) -> Pointer:
        """Return what ``name`` points to; if its file is damaged, the version before and the damage.

        Raises:
            NotFound: There is no such name; names close matches.
            TrustError: It is damaged and there is no version before.
        """
        path = self._path(name)
        if not path.exists():
            raise NotFound(f"There is no '{name}'.{close_matches(name, self.names())}", code="MW4206")
        damage = _damage(path)
        if not damage:
            return Pointer(_value(path))
        message = f"The record '{name}' is damaged ({damage})."
        previous = self._previous(name)
        if not previous.exists() or _damage(previous):
            raise TrustError(message, code="MW3125", hint="mw doctor --repair", where=str(path))
        return Pointer(
            _value(previous), f"{message} The version before it is used; repair it with: mw doctor --repair"
        )

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def withdraw(self, name: str) -> None:
        """Remove a name and the version before."""
        for path in (self._path(name), self._previous(name)):
            self._store.disk.unlink(path)
        self._store.disk.fsync_dir(self._folder)

    def repair(self, name: str) -> bool:
        """Publish the version before again if the newest is damaged; says whether it was."""
        pointer = self.read(name)
        if pointer.damage:
            self.publish(name, pointer.value)
        return bool(pointer.damage)

    def _written(self, data: bytes) -> Path:
        temporary = self._store.temporary("pointer")
        self._store.disk.write(temporary, [data])
        self._store.disk.fsync(temporary)
        return temporary

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"'{name[:100]}' cannot be a name; use letters, digits, '.', '_', '-'.", code="MW1387"
            )
        return self._folder / f"{name}.json"

    def _previous(self, name: str) -> Path:
        return self._folder / f"{name}.before"


def _value(path: Path) -> Any:
    return json.loads(path.read_bytes())["value"]


def _damage(path: Path) -> str:
    try:
        data = json.loads(path.read_bytes())
        whole = isinstance(data, dict) and data["digest"] == digest_json(data["value"])
    except (ValueError, KeyError, TypeError):
        return "it cannot be decoded"
    return "" if whole else "it does not match its digest"

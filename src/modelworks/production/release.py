"""Releasing a package exactly once: a row, a name with a version, and a plain folder under ``models/``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelworks.core.errors import Conflict, NotFound
from modelworks.packaging.publishing import publish
from modelworks.storage.catalog import Catalog
from modelworks.storage.registry import PackageRow
from modelworks.storage.store import Entry, Store

SPACE = "model"
CURRENT = "current"
BELOW = "package/"
MODEL = "model.onnx"


@dataclass(frozen=True)
class Released:
    """A version of a model.

    Attributes:
        folder: The plain folder of its package.
        package: Digest of the package.
    """

    folder: Path
    package: str


class Releases:
    """Released models of an installation.

    Args:
        catalog: Where names and versions are.
        store: Where the files are.
        folder: ``models/``: one folder per name with ``v1``, ``v2``, ... and a link ``current``.
    """

    def __init__(self, catalog: Catalog, store: Store, folder: Path) -> None:
        self._catalog = catalog
        self._store = store
        self._folder = folder

    def champion(self, name: str, run: str, table: str) -> str:
        """Return the tree of the newest version that another run, or other data, brought; or an empty text."""
        try:
            history = self._catalog.names.history(SPACE, name)
        except NotFound:
            return ""
        mine = (run, table)
        others = [item.value["tree"] for item in history if (item.value["run"], item.value["table"]) != mine]
        tree = str(others[-1]) if others else ""
        return tree if tree and self._store.has(tree) else ""

    def release(self, name: str, made: dict[str, Any], outputs: Mapping[str, tuple[str, int]]) -> Released:
        """Let ``name`` point to a package from now on; doing it again changes nothing.

        An order whose cache was swept makes its models again; where the graph comes out the same, what was released
        stands, though the new papers measured other seconds.

        Args:
            name: The model's name.
            made: ``run``, ``table`` (beginning of the data's digest), ``package`` (its digest).
            outputs: Files of the step that made it; those below ``package/`` are released.
        """
        entries = {
            file.removeprefix(BELOW): Entry(digest=digest, size=size)
            for file, (digest, size) in outputs.items()
            if file.startswith(BELOW)
        }
        tree = self._store.put_listing(entries)
        made = {**made, "tree": tree, "model": entries[MODEL].digest if MODEL in entries else ""}
        self._catalog.packages.add(
            PackageRow(
                digest=tree,
                name=name,
                run=made["run"],
                label=name,
                verdict="released",
                manifest={"package": made["package"]},
            )
        )
        version, value = self._version(name, made)
        home = self._folder / name
        folder = home / f"v{version}"
        if not folder.is_dir():
            # Files of their own and not links into the store: a package whose file has a second name is refused.
            files = {file: self._store.read(entry.digest) for file, entry in entries.items()}
            with contextlib.suppress(Conflict):
                publish(folder, files)
        # An order made again does not take a name back to an older version.
        self._point(home, f"v{self._catalog.names.get(SPACE, name).version}")
        return Released(folder, str(value["package"]))

    def _version(self, name: str, made: dict[str, Any]) -> tuple[int, Mapping[str, Any]]:
        writer = f"{made['run']}:{made['tree']}"[:200]
        while True:
            history = self._catalog.names.history(SPACE, name)
            for item in history:
                if item.value["tree"] == made["tree"] or self._made_again(item.value, made):
                    return item.version, item.value
            newest = history[-1].version if history else 0
            with contextlib.suppress(Conflict):
                return self._catalog.names.set(SPACE, name, made, expected=newest, writer=writer), made

    @staticmethod
    def _made_again(old: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
        return bool(made["model"]) and all(old.get(key) == made[key] for key in ("run", "table", "model"))

    def _point(self, home: Path, version: str) -> None:
        link = home / CURRENT
        if link.is_symlink() and str(link.readlink()) == version:
            return
        fresh = home / f".{CURRENT}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(version)
        fresh.replace(link)

"""The folder of an installation: artifacts, catalog, keys, logs, models and orders, opened when first needed."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from modelworks.control.settings import Settings
from modelworks.core.errors import StorageError

if TYPE_CHECKING:
    from modelworks.production.release import Releases
    from modelworks.storage.catalog import Catalog
    from modelworks.storage.store import Store


class Workspace:
    """Where an installation keeps things.

    Args:
        settings: ``home`` and ``database`` are used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = settings.home

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    @property
    def signing_key(self) -> Path:
        """File of the key that signs packages; made on first use."""
        from modelworks.packaging.keys import KEY_FILE, SigningKey

        path = self.keys / KEY_FILE
        if not path.exists():
            SigningKey.load_or_create(self.keys)
        return path

    @property
    def logs(self) -> Path:
        return self._folder("logs")

    @property
    def models(self) -> Path:
        return self._folder("models")

    @property
    def orders(self) -> Path:
        return self._folder("orders")

    @property
    def tables(self) -> Path:
        """Tables that were handed over as objects, named by content."""
        return self._folder("tables")

    @cached_property
    def store(self) -> Store:
        from modelworks.storage.store import Store

        return Store(self._folder("artifacts"))

    @cached_property
    def catalog(self) -> Catalog:
        from modelworks.storage.catalog import Catalog

        self._folder("")
        return Catalog(self.settings.database or self.home / "modelworks.db")

    @cached_property
    def releases(self) -> Releases:
        from modelworks.production.release import Releases

        return Releases(self.catalog, self.store, self.models)

    def close(self) -> None:
        """Close the catalog if it was opened."""
        if "catalog" in self.__dict__:
            self.catalog.close()

    def _folder(self, name: str) -> Path:
        folder = self.home / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"The folder {folder} cannot be made: {os.strerror(error.errno or 0)}.",
                code="MW4010",
                hint="MODELWORKS_HOME=/another/folder mw doctor",
            ) from error
        return folder

"""Making a folder of files appear whole or not at all, durably."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from modelworks.core.errors import Conflict


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` to a folder that appears whole or not at all, durably.

    Raises:
        Conflict: ``folder`` exists.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.{os.urandom(4).hex()}"
    temporary.mkdir()
    try:
        for name, data in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
            )
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(descriptor)
        _sync_folder(temporary)
        try:
            temporary.rename(folder)
        except OSError as error:
            raise Conflict(f"There is something at {folder.name} already.", where=str(folder)) from error
        _sync_folder(folder.parent)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

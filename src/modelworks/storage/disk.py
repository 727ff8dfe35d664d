"""The one seam to the file system: every change the store makes is one of these operations."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelworks.core.errors import DiskFull, StorageError


class Disk:
    """The machine's file system.

    Tests put a recording or a failing disk in its place. A write is durable only after ``fsync`` of the file and,
    for its name, ``fsync_dir`` of the folder.
    """

    def write(self, path: Path, blocks: Iterable[bytes | memoryview]) -> int:
        """Create ``path`` with the bytes of ``blocks``; returns their number.

        Raises:
            DiskFull: No space is left; the partial file is removed.
            StorageError: The device failed, or the file exists.
        """
        written = 0
        with translated(path, "write") as note:
            try:
                with path.open("xb", buffering=0) as stream:
                    for block in blocks:
                        view = memoryview(block)
                        note.needed = len(view)
                        while view:
                            count = stream.write(view) or 0
                            view = view[count:]
                            written += count
            except OSError as error:
                if error.errno != errno.EEXIST:
                    path.unlink(missing_ok=True)
                raise
        return written

    def fsync(self, path: Path) -> None:
        """Force the bytes of a file to the device."""
        with translated(path, "fsync"):
            _sync(path, os.O_RDONLY)

    def fsync_dir(self, folder: Path) -> None:
        """Force the names in a folder to the device."""
        with translated(folder, "fsync"):
            _sync(folder, os.O_RDONLY | os.O_DIRECTORY)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name in one step, replacing what was there."""
        with translated(target, "rename"):
            source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        with translated(path, "unlink"):
            path.unlink(missing_ok=True)

    def make_dir(self, folder: Path) -> None:
        """Create one folder; an existing one is fine."""
        with translated(folder, "mkdir"):
            folder.mkdir(exist_ok=True)


class _Note:
    needed = 0


@contextlib.contextmanager
def translated(path: Path, operation: str) -> Iterator[_Note]:
    """Turn an ``OSError`` of ``operation`` on ``path`` into the error a user can act on.

    Raises:
        DiskFull: ``ENOSPC`` or ``EDQUOT``.
        StorageError: Anything else.
    """
    note = _Note()
    try:
        yield note
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = f"{note.needed} bytes more" if note.needed else "room for one folder entry"
            raise DiskFull(
                f"The disk is full: {operation} of {path} needs {needed}.",
                code="MW4101",
                hint="free some space (mw gc removes what nothing names), then run the same command again",
                where=str(path),
            ) from error
        raise StorageError(
            f"The {operation} of {path} failed: {os.strerror(error.errno or 0)}.",
            code="MW4001",
            hint="mw doctor",
            where=str(path),
        ) from error


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

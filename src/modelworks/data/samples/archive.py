"""A folder or a zip file as a flat list of named byte blobs, within limits."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from modelworks.core.errors import DataError, LimitError

MAX_FILES = 2_000_000
MAX_FILE_BYTES = 256 * 10**6
MAX_TOTAL_BYTES = 64 * 10**9
MAX_RATIO = 200


class Files(Protocol):
    """Named blobs; names are relative and use ``/``."""

    @property
    def names(self) -> list[str]:
        """Every name, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Return the bytes of one file."""
        ...


@dataclass(frozen=True)
class _Folder:
    root: Path
    names: list[str]

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()


@dataclass(frozen=True)
class _Zip:
    archive: zipfile.ZipFile
    names: list[str]

    def read(self, name: str) -> bytes:
        return self.archive.read(name)


@contextmanager
def open_files(source: Path) -> Iterator[Files]:
    """Open a folder, a zip file, or one image or sound as a folder of one.

    Raises:
        DataError: The source is none of them, or the zip file is damaged.
        LimitError: There are too many files, or they unpack to too much.
    """
    if source.is_dir():
        names = sorted(
            item.relative_to(source).as_posix()
            for item in source.rglob("*")
            if item.is_file() and not item.is_symlink()
        )
        if len(names) > MAX_FILES:
            raise LimitError(f"'{source.name}' holds more than {MAX_FILES:,} files.", code="MW2032")
        yield _Folder(source, [name for name in names if not _hidden(name)])
        return
    if source.is_file() and not source.name.lower().endswith(".zip") and not zipfile.is_zipfile(source):
        if source.stat().st_size > MAX_FILE_BYTES:
            raise LimitError(f"'{source.name}' has {source.stat().st_size:,} bytes.", code="MW2033")
        yield _Folder(source.parent, [source.name])
        return
    try:
        with zipfile.ZipFile(source) as archive:
            yield _Zip(archive, sorted(_checked(archive, source.name)))
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"'{source.name}' is not a folder or a readable zip file: {error}.", code="MW1161"
        ) from error


def _checked(archive: zipfile.ZipFile, name: str) -> list[str]:
    """Check sizes from the directory before anything is unpacked; nothing is ever written by its name."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_FILES or total > MAX_TOTAL_BYTES:
        raise LimitError(f"'{name}' holds {len(entries):,} files of {total / 1e9:.1f} GB.", code="MW2032")
    for entry in entries:
        if entry.file_size > MAX_FILE_BYTES or entry.file_size > MAX_RATIO * max(entry.compress_size, 1000):
            raise LimitError(
                f"'{entry.filename[:80]}' in '{name}' unpacks to {entry.file_size:,} bytes.", code="MW2033"
            )
    return [entry.filename for entry in entries if not _hidden(entry.filename)]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)

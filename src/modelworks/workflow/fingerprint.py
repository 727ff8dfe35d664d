"""Digests of files outside the store, remembered while size and modification time stay the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelworks.core.digest import digest_file, digest_json
from modelworks.core.errors import DataError


@dataclass(frozen=True)
class Fingerprint:
    """A source as it was when it was hashed.

    Attributes:
        path: File or folder.
        digest: SHA-256 of the file, or of the listing of the folder's files.
        stamp: Name, size, modification time and file number of every file.
    """

    path: Path
    digest: str
    stamp: tuple[tuple[str, int, int, int], ...]

    def unchanged(self) -> bool:
        """Say whether the source still looks as it was when it was hashed."""
        try:
            return _stamp(self.path) == self.stamp
        except FileNotFoundError:
            return False


class Fingerprints:
    """Hashes sources, each once while it does not change."""

    def __init__(self) -> None:
        self._known: dict[Path, Fingerprint] = {}

    def of(self, path: Path) -> Fingerprint:
        """Return the fingerprint of a file or folder.

        Raises:
            DataError: It is not there, or it changed while it was read.
        """
        path = path.absolute()
        try:
            stamp = _stamp(path)
            known = self._known.get(path)
            if known is not None and known.stamp == stamp:
                return known
            if path.is_dir():
                digest = digest_json({name: digest_file(path / name) for name, *_ in stamp})
            else:
                digest = digest_file(path)
            if _stamp(path) != stamp:
                raise changed(path)
        except FileNotFoundError:
            raise DataError(f"There is no file or folder {path}.", code="MW1191") from None
        made = Fingerprint(path, digest, stamp)
        self._known[path] = made
        return made


def changed(path: Path) -> DataError:
    """Return the error for a source that changed while it was being read."""
    return DataError(
        f"{path} changed while it was being read.",
        code="MW1192",
        hint="run the same command again when it is complete",
    )


def _stamp(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        return tuple((item.relative_to(path).as_posix(), *_numbers(item)) for item in files)
    return (("", *_numbers(path)),)


def _numbers(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino

"""Reading a package folder so that the bytes that were checked are the bytes that are used."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from modelworks.core.errors import TrustError
from modelworks.packaging.manifest import FILE_KINDS, NEEDED

_HINT = "fetch the package again from where it was made"


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read every file of a package folder once, without following links and within size limits.

    Raises:
        TrustError: A file is missing, unknown, too large, or not a regular file with one name.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TrustError(
            f"There is no package folder here: {error.strerror}.", code="MW3101", where=str(folder)
        ) from None
    try:
        names = os.listdir(descriptor)  # noqa: PTH208 - of the open folder, not of its path
        check_names(names, str(folder))
        return {name: _read(descriptor, name, limit) for name, limit in FILE_KINDS.items() if name in names}
    finally:
        os.close(descriptor)


def check_names(names: list[str], where: str) -> None:
    """Raise unless ``names`` are the files of a package: all that are needed, and no unknown ones."""
    if len(set(names)) != len(names):
        raise TrustError("A file name occurs twice in the package.", code="MW3102", where=where, hint=_HINT)
    unknown = sorted(set(names) - set(FILE_KINDS))
    if unknown:
        raise TrustError(
            f"'{unknown[0]!a:.100}' is not a file of a package; a package holds only {', '.join(sorted(FILE_KINDS))}.",
            code="MW3102",
            where=where,
            hint=_HINT,
        )
    missing = sorted(NEEDED - set(names))
    if missing:
        raise TrustError(f"{missing[0]} is missing from the package.", code="MW3101", where=where, hint=_HINT)


def check_sizes(files: Mapping[str, bytes]) -> None:
    """Raise if a file of an archive is larger than its kind may be."""
    for name, data in files.items():
        if len(data) > FILE_KINDS[name]:
            raise _too_large(name, len(data))


def _read(folder: int, name: str, limit: int) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        what = "a symbolic link" if error.errno == errno.ELOOP else f"not readable ({error.strerror})"
        raise TrustError(f"{name} is {what}.", code="MW3103", where=name, hint=_HINT) from None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TrustError(f"{name} is not a regular file.", code="MW3103", where=name, hint=_HINT)
        if status.st_nlink != 1:
            raise TrustError(
                f"{name} has {status.st_nlink} names (hard links); a file of a package has one.",
                code="MW3103",
                where=name,
                hint="copy the package to a fresh folder",
            )
        if status.st_size > limit:
            raise _too_large(name, status.st_size)
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise _too_large(name, len(data))
    return data


def _too_large(name: str, size: int) -> TrustError:
    return TrustError(
        f"{name} has {size:,} bytes; at most {FILE_KINDS[name]:,} are read.",
        code="MW3104",
        where=name,
        hint=_HINT,
    )

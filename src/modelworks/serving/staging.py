"""Packages handed to a server: verified, copied under their digest, found again by digest only."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from modelworks.packaging.package import TrustPolicy, open_package
from modelworks.serving.errors import UnknownModel
from modelworks.serving.packages import PackageSource, package_source

_DIGEST = re.compile(r"[0-9a-f]{64}")


def stage(path: Path, state: Path, trust: TrustPolicy) -> PackageSource:
    """Verify a package and copy it to ``<state>/packages/<digest>``; running servers can deploy it by digest.

    Raises:
        TrustError: It is not a package whose bytes and signature hold.
    """
    package = open_package(path, trust)
    folder = state / "packages"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    final = folder / package.digest
    if not final.exists():
        temporary = folder / f".{package.digest}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        for name, data in package.files.items():
            with (temporary / name).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        try:
            temporary.rename(final)
        except OSError:
            # Another process staged the same bytes first.
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(folder)
    return package_source(final, trust)


def staged(digest: str, state: Path, trust: TrustPolicy) -> PackageSource:
    """Return a staged package.

    Raises:
        UnknownModel: There is none of that digest.
        TrustError: Its bytes do not hold any more.
    """
    if not _DIGEST.fullmatch(digest) or not (state / "packages" / digest).is_dir():
        raise UnknownModel(f"No package {digest[:64]!a} was staged here.", hint="mw deploy PACKAGE stages it")
    return package_source(state / "packages" / digest, trust)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

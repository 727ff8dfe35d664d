"""Removes what nothing names: artifacts, folders of trees, and the unfinished work of dead processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from modelworks.storage.owner import Owner
from modelworks.storage.store import Store

GRACE_S = 3600.0
"""Age below which nothing is removed: somebody may have written it and be about to record it."""

_FOREIGN_GRACE_S = 7 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep removed.

    Attributes:
        blobs: Artifacts.
        size: Their bytes.
        staging: Unfinished files and folders of dead processes, and progress that nobody went on from for a week.
        trees: Folders of hard links.
    """

    blobs: int
    size: int
    staging: int
    trees: int


def sweep(
    store: Store, live: Iterable[str], *, grace_s: float = GRACE_S, now: Callable[[], float] = time.time
) -> Swept:
    """Remove every artifact that is neither in ``live`` nor a file of a tree in ``live``.

    Safe while others write: what was written or found again within ``grace_s`` stays, and so does the unfinished work
    of living processes.

    Args:
        store: The store.
        live: Digests that something names (``Catalog.live_digests``).
        grace_s: Seconds; see ``GRACE_S``.
        now: Wall clock that file times are compared with.
    """
    kept = store.expand(live)
    blobs = size = trees = staging = 0
    for digest in [item for item in store.digests() if item not in kept]:
        removed = _remove_blob(store, digest, now() - grace_s)
        blobs += removed is not None
        size += removed or 0
    for folder in list(store.trees.iterdir()):
        if folder.name not in kept and folder.stat().st_mtime < now() - grace_s:
            shutil.rmtree(folder)
            trees += 1
    for path in list(store.unfinished.iterdir()):
        if _abandoned(path, now()):
            _delete(path)
            staging += 1
    for folder in store.kept.glob("*"):
        if folder.stat().st_mtime < now() - _FOREIGN_GRACE_S:
            shutil.rmtree(folder)
            staging += 1
    return Swept(blobs=blobs, size=size, staging=staging, trees=trees)


def _remove_blob(store: Store, digest: str, before: float) -> int | None:
    path = store.path(digest)
    if path.stat().st_mtime >= before:
        return None
    # Out of sight first: a writer that finds the blob marks it as used, and then either we see the mark here and
    # put it back, or the writer does not find it and writes it again.
    aside = store.temporary("doomed")
    store.disk.rename(path, aside)
    status = aside.stat()
    if status.st_mtime >= before:
        store.disk.rename(aside, path)
        return None
    store.disk.unlink(aside)
    return status.st_size


def _abandoned(path: Path, now: float) -> bool:
    owner = Owner.parse(path.name.split(".")[0])
    alive = owner.alive() if owner is not None else None
    if alive is None:
        return path.stat().st_mtime < now - _FOREIGN_GRACE_S
    return not alive


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Artifacts by content: files and trees named by the SHA-256 of their bytes, written durably or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from modelworks.core.digest import canonical_json, digest_bytes, digest_file
from modelworks.core.errors import InputError, NotFound, TrustError, UsageError
from modelworks.storage.disk import Disk, translated
from modelworks.storage.owner import Owner

BLOCK = 1 << 20
TREE_FORMAT = "modelworks.tree/1"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COUNTER = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of a tree.

    Attributes:
        digest: SHA-256 of its bytes.
        size: Bytes.
    """

    digest: str
    size: int


class Store:
    """A folder of artifacts.

    Layout below ``root``: ``blobs/<digest>`` (read-only files), ``trees/<digest>/`` (folders of hard links to
    blobs, made on demand), ``names/`` (see ``storage/pointers.py``), ``staging/`` (unfinished work of live
    processes), ``kept/`` (progress of unfinished steps, to go on from). What a method returned is on the device:
    write to a temporary name, fsync, rename, fsync the folder, then acknowledge.

    Args:
        root: Folder; made if absent.
        disk: The file system; tests pass their own.

    Attributes:
        root: The folder.
        disk: The file system.
        blobs: Folder of the artifacts.
        trees: Folder of the trees' folders.
        unfinished: Folder of unfinished work.
        kept: Folder of the progress of unfinished steps.

    Raises:
        DiskFull, StorageError: From every method that writes.
    """

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = Path(root)
        self.disk = disk or Disk()
        self.blobs = self.root / "blobs"
        self.trees = self.root / "trees"
        self.unfinished = self.root / "staging"
        self.kept = self.root / "kept"
        self._owner = str(Owner.current())
        if not self.unfinished.is_dir():
            with translated(self.root, "mkdir"):
                self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.blobs, self.trees, self.root / "names", self.unfinished):
                self.disk.make_dir(folder)
            self.disk.fsync_dir(self.root)

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Keep ``data``; returns its digest."""
        digest = self._write_blob(data)
        self.disk.fsync_dir(self.blobs)
        return digest

    def put_file(self, path: Path, *, move: bool = False) -> str:
        """Keep a file; returns its digest.

        Args:
            path: The file.
            move: Take the file itself instead of a copy; it must be on the store's file system and not be used again.
        """
        digest, _ = self._take(Path(path), move)
        self.disk.fsync_dir(self.blobs)
        return digest

    def put_tree(self, folder: Path, *, move: bool = False) -> tuple[str, dict[str, Entry]]:
        """Keep every file below a folder and the listing of them; returns the listing's digest and the listing.

        Args:
            folder: Regular files and folders only; empty folders are not kept.
            move: Take the files themselves (same file system) instead of copies.

        Raises:
            InputError: There is a link or a device in the folder.
        """
        entries: dict[str, Entry] = {}
        for name, path in _regular_files(Path(folder)):
            digest, size = self._take(path, move)
            entries[name] = Entry(digest=digest, size=size)
        return self.put_listing(entries), entries

    def put_listing(self, entries: dict[str, Entry]) -> str:
        """Keep a tree of files that are kept already; returns its digest."""
        files = {name: {"digest": entry.digest, "size": entry.size} for name, entry in entries.items()}
        return self.put_bytes(canonical_json({"format": TREE_FORMAT, "files": files}))

    def has(self, digest: str) -> bool:
        """Say whether a blob is there (by name; ``verify`` reads it)."""
        return self._blob(digest).exists()

    def path(self, digest: str) -> Path:
        """Return the read-only file of a blob.

        Raises:
            NotFound: It is not kept here.
        """
        path = self._blob(digest)
        if not path.exists():
            raise NotFound(
                f"The artifact {digest} is not in the store {self.root}.", code="MW4201", hint="mw doctor"
            )
        return path

    def read(self, digest: str) -> bytes:
        """Return the bytes of a blob after comparing them with the digest.

        Raises:
            NotFound: It is not kept here.
            TrustError: The bytes are damaged.
        """
        data = self.path(digest).read_bytes()
        if digest_bytes(data) != digest:
            raise self._damaged(digest)
        return data

    def listing(self, digest: str) -> dict[str, Entry]:
        """Return the files of a tree: relative POSIX name -> entry.

        Raises:
            NotFound: It is not kept here.
            TrustError: It is damaged, or it is not a tree.
        """
        return _parse_listing(digest, self.read(digest))

    def open_tree(self, digest: str) -> dict[str, Path]:
        """Return the files of a tree to read in place: relative POSIX name -> read-only path.

        Raises:
            NotFound: The tree or one of its files is not kept here.
        """
        return {name: self.path(entry.digest) for name, entry in self.listing(digest).items()}

    def tree_folder(self, digest: str) -> Path:
        """Return a read-only folder with a tree's files under their names; made once, kept until the sweep."""
        folder = self.trees / digest
        if not folder.is_dir():
            building = self.staging("tree")
            self.checkout_tree(digest, building / "tree")
            try:
                (building / "tree").rename(folder)
            except OSError:
                # Another process made the same folder first.
                if not folder.is_dir():
                    raise
            shutil.rmtree(building)
        return folder

    def checkout_tree(self, digest: str, into: Path) -> None:
        """Put a tree's files below ``into``: hard links where the file system allows, else copies.

        Hard-linked files are read-only: a process that wants to change one must write a new file.

        Raises:
            NotFound: The tree or one of its files is not kept here.
        """
        files = self.open_tree(digest)
        with translated(into, "checkout"):
            into.mkdir(parents=True, exist_ok=True)
            for name, source in files.items():
                target = into / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(source, target)
                except OSError:
                    shutil.copyfile(source, target)

    def verify(self, digest: str) -> None:
        """Read a blob and compare it with its digest.

        Raises:
            NotFound: It is not kept here.
            TrustError: The bytes are damaged; names the artifact and the repair command.
        """
        if digest_file(self.path(digest)) != digest:
            raise self._damaged(digest)

    def digests(self) -> Iterator[str]:
        """Walk the digests of all blobs."""
        for path in sorted(self.blobs.iterdir()):
            if _DIGEST.fullmatch(path.name):
                yield path.name

    def discard(self, digest: str) -> None:
        """Remove a damaged blob so that the step that made it runs again."""
        self.disk.unlink(self._blob(digest))

    def staging(self, name: str) -> Path:
        """Return a new empty folder of this process on the store's file system, for files to be taken with ``move``."""
        folder = self.unfinished / f"{self._owner}.{next(_COUNTER)}.{name}"
        with translated(folder, "mkdir"):
            folder.mkdir()
        return folder

    def progress(self, name: str) -> Path:
        """Return the folder of the progress of a step; it outlives the process that writes to it."""
        folder = self.kept / name
        with translated(folder, "mkdir"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def forget_progress(self, name: str) -> None:
        """Remove the progress of a step that has ended; what cannot be removed is left to the sweep."""
        shutil.rmtree(self.kept / name, ignore_errors=True)

    def temporary(self, kind: str) -> Path:
        """Return an unused name of this process on the store's file system."""
        return self.unfinished / f"{self._owner}.{next(_COUNTER)}.{kind}"

    def staged(self, name: str) -> list[Path]:
        """Return the staging folders of any process that were made for ``name``."""
        return sorted(self.unfinished.glob(f"*.{name}"))

    def expand(self, digests: Iterable[str]) -> set[str]:
        """Return ``digests`` with the files of those that are trees."""
        live: set[str] = set()
        for digest in digests:
            live.add(digest)
            path = self._blob(digest)
            if not path.exists():
                continue
            with path.open("rb") as stream:
                head = stream.read(len(_TREE_HEAD))
            if head == _TREE_HEAD:
                live.update(entry.digest for entry in self.listing(digest).values())
        return live

    def _write_blob(self, data: bytes | memoryview) -> str:
        digest = digest_bytes(data)
        if not self._kept(digest, len(data)):
            temporary = self.temporary("blob")
            self.disk.write(temporary, [data])
            self._adopt(temporary, digest)
        return digest

    def _take(self, path: Path, move: bool) -> tuple[str, int]:
        """Give a file's bytes their name; the name is durable after ``fsync_dir`` of the blobs."""
        if move:
            digest, size = digest_file(path), path.stat().st_size
            if self._kept(digest, size):
                self.disk.unlink(path)
            else:
                self._adopt(path, digest)
            return digest, size
        temporary = self.temporary("blob")
        hasher = hashlib.sha256()
        size = self.disk.write(temporary, _hashed_blocks(path, hasher))
        digest = hasher.hexdigest()
        if self._kept(digest, size):
            self.disk.unlink(temporary)
        else:
            self._adopt(temporary, digest)
        return digest, size

    def _adopt(self, temporary: Path, digest: str) -> None:
        with translated(temporary, "chmod"):
            temporary.chmod(0o444)
        self.disk.fsync(temporary)
        self.disk.rename(temporary, self._blob(digest))

    def _kept(self, digest: str, size: int) -> bool:
        """Say whether the blob is there already, and mark it as used now, so that no sweep takes it.

        Its bytes are durable then, its name perhaps not yet: who relies on it must ``fsync_dir`` all the same.
        """
        path = self._blob(digest)
        try:
            if path.stat().st_size != size:
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _blob(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise UsageError(f"'{digest[:80]}' is not a SHA-256 digest.", code="MW1381")
        return self.blobs / digest

    def _damaged(self, digest: str) -> TrustError:
        return TrustError(
            f"The artifact {digest} in {self.root} does not match its digest.",
            code="MW3117",
            hint="mw doctor --repair (removes it; the next run makes it again)",
            where=str(self._blob(digest)),
        )


_TREE_HEAD = b'{"files":'


def _hashed_blocks(path: Path, hasher: Any) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            hasher.update(block)
            yield block


def _regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", code="MW4202")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise InputError(f"{path} is a link or a device; a tree holds regular files only.", code="MW1091")
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _parse_listing(digest: str, data: bytes) -> dict[str, Entry]:
    try:
        value = json.loads(data)
        if value["format"] != TREE_FORMAT:
            raise ValueError("another format")
        entries = {
            str(name): Entry(digest=str(item["digest"]), size=int(item["size"]))
            for name, item in value["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise TrustError(f"The artifact {digest} is not a tree.", code="MW3118") from None
    for name, entry in entries.items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
            raise TrustError(f"The tree {digest} names a file outside itself: {name!r}.", code="MW3119")
        if not _DIGEST.fullmatch(entry.digest):
            raise TrustError(f"The tree {digest} has a file without a digest: {name!r}.", code="MW3120")
    return entries
